//! What was trained on what, and how to do it again.

use super::encode::escape;
use super::record::Record;

/// Hashes, command, settings.
pub(super) fn again(record: &Record) -> String {
    let summary = &record.summary;
    let data = &summary.data;
    let text = |key: &[&str]| {
        let value = key.iter().fold(&record.manifest, |value, key| &value[*key]);
        value.as_str().map(str::to_owned)
    };
    let [_, many] = record.group_word();
    let shared = data.groups_shared.map_or("not known".into(), |n| format!("{n} {many}"));
    let rows = [
        (
            "data",
            format!("{}, {} images train and {} judge, split by {}", data.name, data.n_train, data.n_val, data.split),
        ),
        ("on both sides", shared),
        ("seed of the split", data.seed.to_string()),
        (
            "model",
            format!(
                "{} from weights “{}”, epochs: {}, images a batch: {}",
                summary.arch, summary.weights, summary.epochs, summary.batch_size
            ),
        ),
        ("data, SHA-256", data.sha256.clone()),
        ("split, SHA-256", text(&["data", "split_sha256"]).unwrap_or_default()),
        ("initial weights, SHA-256", text(&["weights", "sha256"]).unwrap_or_default()),
        ("final weights, SHA-256", summary.weights_sha256.clone()),
        ("program", text(&["versions", "cn-train"]).map_or(String::new(), |v| format!("cn-train {v}"))),
        ("started", text(&["started"]).unwrap_or_default()),
    ];
    let rows: String = rows
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("<dt>{name}</dt><dd>{}</dd>", escape(value)))
        .collect();
    let command = command(record).map_or(String::new(), |command| {
        format!("<h3>The command</h3><pre><code>{}</code></pre><p class=soft>The same data, seed, program, instruction set ({}) and number of epochs give the same weights, bit for bit.</p>", escape(&command), escape(&summary.isa))
    });
    let settings = match record.settings.is_empty() {
        true => String::new(),
        false => format!(
            "<details><summary>All settings (config.toml)</summary><pre><code>{}</code></pre></details>",
            escape(&record.settings)
        ),
    };
    format!("<dl>{rows}</dl>{command}{settings}")
}

/// The command line, quoted for a shell, with the program's name in place of its path.
fn command(record: &Record) -> Option<String> {
    let words = record.manifest["command"].as_array()?;
    let words: Vec<&str> = words.iter().filter_map(serde_json::Value::as_str).collect();
    let arguments = words.iter().skip(1).map(|word| quoted(word));
    Some(std::iter::once("cn-train".to_owned()).chain(arguments).collect::<Vec<_>>().join(" "))
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./,:=+%@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Where the images are from.
pub(super) fn licence(record: &Record) -> String {
    let data = &record.card.data;
    let licence = data.licence.as_ref().map_or(String::new(), |licence| format!(" Images: {}.", escape(licence)));
    let citation = data.citation.as_ref().map_or(String::new(), |citation| format!(" {}", escape(citation)));
    format!("<p>Written by cn-train from the run <code>{}</code>.{licence}{citation}</p>", escape(&record.summary.run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_split_them() {
        for (word, expected) in
            [("--lr", "--lr"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("", "''"), ("{id}.png", "'{id}.png'")]
        {
            assert_eq!(quoted(word), expected);
        }
    }
}
