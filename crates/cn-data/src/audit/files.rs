use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{ColorType, ExtendedColorType, ImageDecoder, ImageFormat, ImageReader};
use rayon::prelude::*;
use zune_jpeg::JpegDecoder;

use super::odd::{FEW, Odd, OddReason, Sizes};
use crate::Index;
use crate::decode::{MAX_METADATA, is_overfull, limits};

/// How a file stores its image.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    format: ImageFormat,
    color: ColorType,
    /// What is stored, where the decoder gives something else: a palette, fewer bits, inks.
    stored: Option<Stored>,
}

/// How a file stores what is decoded to grey or RGB of whole bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Stored {
    Palette(u8),
    Bits(u8),
    Cmyk,
}

impl Stored {
    /// From the header (PNG specification, 11.2.1): depth and colour type stand behind width and height.
    fn of_png(path: &Path) -> Option<Self> {
        let mut head = [0; 26];
        File::open(path).ok()?.read_exact(&mut head).ok()?;
        match (head[25], head[24]) {
            (3, bits) => Some(Self::Palette(bits)),
            (0, bits @ (1 | 2 | 4)) => Some(Self::Bits(bits)),
            _ => None,
        }
    }

    /// From the frame's header: four components are inks, whatever a marker of Adobe's says of their order.
    fn of_jpeg(path: &Path) -> Option<Self> {
        let mut decoder = JpegDecoder::new(BufReader::new(File::open(path).ok()?));
        decoder.decode_headers().ok()?;
        (decoder.info()?.components == 4).then_some(Self::Cmyk)
    }
}

/// What the head of a file says.
struct Head {
    kind: Kind,
    /// Height and width of the image as it is shown.
    size: [usize; 2],
}

impl Index {
    /// Images in files of a format, a colour mode, a depth or a size that at most a tenth of them have, by id. Only
    /// headers are read; files that cannot be read, and images without a file, are left out.
    #[must_use]
    pub fn odd_files(&self) -> Vec<Odd> {
        let heads = (0..self.len() as u32).into_par_iter().map(|id| Some((id, Head::of(&self.path(id))?)));
        let heads: Vec<(u32, Head)> = heads.flatten().collect();
        let sizes = Sizes::of(heads.iter().map(|(_, head)| head.size).collect());
        let mut counts: HashMap<Kind, usize> = HashMap::new();
        heads.iter().for_each(|(_, head)| *counts.entry(head.kind).or_default() += 1);
        let few = |kind: &Kind| counts[kind] as f64 <= FEW * heads.len() as f64;
        // The name decides between equally many, so that the answer is always the same.
        let Some(usual) = counts.iter().max_by_key(|(kind, n)| (**n, kind.name())).map(|(kind, _)| kind.name()) else {
            return Vec::new();
        };
        let mut odd = Vec::new();
        for (id, Head { kind, size }) in &heads {
            if let Some(usual) = sizes.usual_of(*size) {
                odd.push(Odd { id: *id, reason: OddReason::Size { size: *size, usual } });
            }
            if few(kind) {
                odd.push(Odd { id: *id, reason: OddReason::File { kind: kind.name(), usual: usual.clone() } });
            }
        }
        odd
    }

    /// Height and width of the image in the file of `id`, as it is shown; `None` where that cannot be read.
    #[must_use]
    pub fn size_in_file(&self, id: u32) -> Option<[usize; 2]> {
        Some(Head::of(&self.path(id))?.size)
    }
}

impl Head {
    /// `None` where the head of a file says nothing.
    fn of(path: &Path) -> Option<Self> {
        let open = || Some(BufReader::new(File::open(path).ok()?));
        let mut reader = ImageReader::new(open()?).with_guessed_format().ok()?;
        let format = reader.format()?;
        if is_overfull(&mut open()?, format) {
            return None;
        }
        reader.limits(limits(MAX_METADATA));
        // A panic in a decoder of foreign bytes must cost one image, not the audit.
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut decoder = reader.into_decoder().ok()?;
            let (width, height) = decoder.dimensions();
            let lies = matches!(
                decoder.orientation(),
                Ok(Orientation::Rotate90
                    | Orientation::Rotate270
                    | Orientation::Rotate90FlipH
                    | Orientation::Rotate270FlipH)
            );
            let [height, width] = [height, width].map(|side| side as usize);
            let size = if lies { [width, height] } else { [height, width] };
            let stored = match (format, decoder.original_color_type()) {
                (ImageFormat::Png, _) => Stored::of_png(path),
                (ImageFormat::Jpeg, _) => Stored::of_jpeg(path),
                (_, ExtendedColorType::Cmyk8 | ExtendedColorType::Cmyk16) => Some(Stored::Cmyk),
                _ => None,
            };
            Some(Self { kind: Kind { format, color: decoder.color_type(), stored }, size })
        }))
        .ok()?
    }
}

impl Kind {
    /// `PNG, RGBA, 8 bits`.
    fn name(self) -> String {
        let mode = match (self.stored, self.color.has_color(), self.color.has_alpha()) {
            (Some(Stored::Palette(_)), ..) => "palette",
            (Some(Stored::Cmyk), ..) => "CMYK",
            (_, false, false) => "grey",
            (_, false, true) => "grey with transparency",
            (_, true, false) => "RGB",
            (_, true, true) => "RGBA",
        };
        let bits = match self.stored {
            Some(Stored::Bits(bits) | Stored::Palette(bits)) => u16::from(bits),
            _ => self.color.bits_per_pixel() / u16::from(self.color.channel_count()),
        };
        let bits = if bits == 1 { "1 bit".to_owned() } else { format!("{bits} bits") };
        format!("{:?}, {mode}, {bits}", self.format).replace("Jpeg", "JPEG").replace("Png", "PNG")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Record;
    use image::DynamicImage;

    #[test]
    fn files_of_another_kind_are_odd_where_they_are_few() {
        let folder = tempfile::tempdir().expect("a folder");
        let save = |name: &str, image: DynamicImage| image.save(folder.path().join(name)).expect("written");
        let mut names = Vec::new();
        for i in 0..40 {
            names.push(format!("{i}.png"));
            save(&names[i], DynamicImage::new_luma8(4, 3));
        }
        for (name, image) in [
            ("alpha.png", DynamicImage::new_rgba8(4, 3)),
            ("deep.png", DynamicImage::new_luma16(4, 3)),
            ("other.jpg", DynamicImage::new_luma8(4, 3)),
            // Larger than what is kept of a large image.
            ("large.png", DynamicImage::new_luma8(2000, 600)),
        ] {
            save(name, image);
            names.push(name.into());
        }
        // Of 4x3 pixels, black, with one bit each; and the same with a palette.
        let chunks: [(&str, &[u8], &[u8]); 2] = [
            ("bit.png", &[1, 0, 0, 0, 0, 156, 143, 147, 107], &[]),
            ("palette.png", &[1, 3, 0, 0, 0, 142, 58, 60, 133], b"\0\0\0\x06PLTE\0\0\0\xff\xff\xff\xa5\xd9\x9f\xdd"),
        ];
        for (name, header, palette) in chunks {
            let data = b"\0\0\0\x0eIDATx\x9cc`````\0\0\0\x06\0\x01r\x82\x99\xea\0\0\0\0IEND\xaeB`\x82";
            let bytes = [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x04\0\0\0\x03", header, palette, data].concat();
            std::fs::write(folder.path().join(name), bytes).expect("written");
            names.push(name.into());
        }
        let inks = include_bytes!("../../../../tests/golden/cmyk.jpg");
        std::fs::write(folder.path().join("inks.jpg"), inks).expect("written");
        names.push("inks.jpg".into());
        std::fs::write(folder.path().join("damaged.png"), b"\x89PNG\r\n").expect("written");
        names.extend(["damaged.png".into(), "missing.png".into()]);
        let record = |path: &String| Record { path: path.clone(), labels: vec!["a".into()], group: None };
        let index = Index::from_records("files", folder.path(), names.iter().map(record).collect()).expect("an index");
        let said: Vec<_> =
            index.odd_files().iter().map(|odd| format!("{}: {}", names[odd.id as usize], odd.reason)).collect();
        assert_eq!(
            said,
            [
                "alpha.png: read as PNG, RGBA, 8 bits, where PNG, grey, 8 bits is usual",
                "deep.png: read as PNG, grey, 16 bits, where PNG, grey, 8 bits is usual",
                "other.jpg: read as JPEG, grey, 8 bits, where PNG, grey, 8 bits is usual",
                "large.png: 2000x600 pixels, where 4x3 is usual",
                "bit.png: read as PNG, grey, 1 bit, where PNG, grey, 8 bits is usual",
                "palette.png: read as PNG, palette, 1 bit, where PNG, grey, 8 bits is usual",
                "inks.jpg: 8x8 pixels, where 4x3 is usual",
                "inks.jpg: read as JPEG, CMYK, 8 bits, where PNG, grey, 8 bits is usual",
            ]
        );
        // Half and half is a mixture, and nothing is odd in it.
        let index = Index::from_records("half", folder.path(), names[38..42].iter().map(record).collect());
        assert_eq!(index.expect("an index").odd_files(), []);
    }
}
