//! What an audit found, on one page.

use super::document;
use super::encode::{data_uri, escape};
use super::record::Record;
use crate::audit::{Audit, AuditSection};
use crate::error::Result;
use crate::picture::Picture;
use crate::text::Align;

/// Pictures of an [`Audit`]; each stands in the section of its kind.
#[derive(Debug, Clone, Default)]
pub struct AuditPictures {
    /// Images unlike the rest.
    pub odd: Option<Picture>,
    /// Images that show the same, set by set.
    pub copies: Option<Picture>,
    /// Images whose labels are suspicious.
    pub labels: Option<Picture>,
    /// Images before and after a crop that cuts off much.
    pub crops: Option<Picture>,
}

/// A page with all findings and their pictures; needs nothing else.
///
/// # Errors
///
/// If a picture cannot be encoded.
pub fn audit_page(audit: &Audit, pictures: &AuditPictures) -> Result<String> {
    let (mut links, mut bodies) = (String::new(), String::new());
    for section in audit.sections() {
        let picture = match section.id {
            "odd" => &pictures.odd,
            "copies" => &pictures.copies,
            "labels" => &pictures.labels,
            "crops" => &pictures.crops,
            _ => &None,
        };
        links += &format!("<a href=\"#{}\">{}</a>", section.id, section.title);
        bodies += &body(&section, picture.as_ref())?;
    }
    let data = escape(&audit.data);
    let title = format!("{data}: what is in the data");
    let body = format!(
        "<header><h1>{title}</h1><p class=lead>{} images, looked at before they are believed.</p></header>\n\
         <main><nav aria-label=Contents>{links}</nav>\n{bodies}</main>",
        audit.n_images
    );
    Ok(document(&title, &body))
}

/// What the audit of a run found, without its pictures; nothing, where there was none.
pub(super) fn findings(record: &Record) -> String {
    let Some(audit) = &record.audit else { return String::new() };
    let finding = |section: AuditSection| format!("<dt>{}</dt><dd>{}</dd>", section.title, marked(&section.finding));
    let findings: String = audit.sections().into_iter().map(finding).collect();
    format!(
        "<p>An audit looked at {} images. Its tables and pictures are in <code>audit/audit.html</code> of the run.</p>\
         <dl>{findings}</dl>",
        audit.n_images
    )
}

fn body(section: &AuditSection, picture: Option<&Picture>) -> Result<String> {
    let AuditSection { id, title, finding, head, rows, more } = section;
    let class = |align: &Align| if *align == Align::Left { " class=left" } else { "" };
    let name = |(name, align): &(&str, Align)| format!("<th{}>{}</th>", class(align), escape(name));
    let head_cells: String = head.iter().map(name).collect();
    let row = |row: &Vec<String>| {
        let cell = |(cell, (_, align)): (&String, &(&str, Align))| format!("<td{}>{}</td>", class(align), escape(cell));
        format!("<tr>{}</tr>", row.iter().zip(head).map(cell).collect::<String>())
    };
    let mut body = format!("<section id=\"{id}\"><h2>{title}</h2><p>{}</p>", marked(finding));
    if let Some(picture) = picture {
        let uri = data_uri(&picture.to_png()?);
        // On a phone the picture is scrolled, so that its captions stay readable.
        body += &format!(
            "<figure><div class=scroll><img class=\"wide grid\" src=\"{uri}\" alt=\"{title}: images with captions\"></div></figure>"
        );
    }
    if !rows.is_empty() {
        let rows: String = rows.iter().map(row).collect();
        body += &format!(
            "<div class=scroll><table><thead><tr>{head_cells}</tr></thead><tbody>{rows}</tbody></table></div>"
        );
    }
    if *more > 0 {
        body += &format!("<p class=soft>and {more} more</p>");
    }
    Ok(body + "</section>\n")
}

/// Text with what stands between backticks as code.
fn marked(text: &str) -> String {
    let parts = escape(text);
    let part = |(i, part): (usize, &str)| if i % 2 == 1 { format!("<code>{part}</code>") } else { part.to_owned() };
    parts.split('`').enumerate().map(part).collect()
}
