use super::*;
use proptest::prelude::*;

fn spec() -> Spec {
    Spec {
        csv: Some("t.csv".into()),
        image: Some("im/{id}.png".into()),
        label: Some("label".into()),
        ..Spec::default()
    }
}

fn read_bytes(bytes: &[u8], spec: &Spec) -> Result<Found> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("t.csv");
    std::fs::write(&path, bytes).expect("written");
    read(folder.path(), &path, spec)
}

/// The records as `path=label+label@group`.
fn lines(bytes: &[u8], spec: &Spec) -> Vec<String> {
    let found = read_bytes(bytes, spec).expect("a valid table");
    let group = |r: &Record| r.group.as_ref().map(|g| format!("@{g}")).unwrap_or_default();
    found.records.iter().map(|r| format!("{}={}{}", r.path, r.labels.join("+"), group(r))).collect()
}

/// The error without the folder's name.
fn error(bytes: &[u8], spec: &Spec) -> String {
    let text = read_bytes(bytes, spec).expect_err("an invalid table").to_string();
    let (start, end) = (text.find('`').map_or(0, |i| i + 1), text.find("t.csv").unwrap_or(0));
    if end > start { text.replace(&text[start..end], "") } else { text }
}

#[test]
fn plain_tables_are_read() {
    assert_eq!(lines(b"id,label\n1,a\n2,b\n", &spec()), ["im/1.png=a", "im/2.png=b"]);
}

#[test]
fn programs_write_csv_in_many_ways() {
    let expected = ["im/1.png=a", "im/2.png=b"];
    let check = |bytes: &[u8]| assert_eq!(lines(bytes, &spec()), expected, "{:?}", String::from_utf8_lossy(bytes));
    check(b"\xEF\xBB\xBFid,label\n1,a\n2,b\n");
    check(b"id,label\r\n1,a\r\n2,b\r\n");
    check(b"id,label\r\n1,a\r\n2,b");
    check(b"\n\nid,label\n\n1,a\n\n\n2,b\n\n");
    check(b"\"id\",\"label\"\n\"1\",\"a\"\n\"2\",\"b\"\n");
    check(b" id , label \n 1 , a \n 2 , b \n");
    check(b"label;id\na;1\nb;2\n");
    check(b"label\tid\na\t1\nb\t2\n");
    check(b"id,\"x;y;z\",label\n1,,a\n2,,b\n");
    check(b"id,label\n1,a\n2,b\n,\n,\n");
}

#[test]
fn quotes_hold_separators_line_breaks_and_quotes() {
    let bytes = b"id,note,label\n1,\"a, b\nc\",\"x \"\"y\"\"\"\n2,,z\n";
    assert_eq!(lines(bytes, &spec()), ["im/1.png=x \"y\"", "im/2.png=z"]);
}

#[test]
fn a_field_holds_several_labels() {
    let several = Spec { label_separator: Some(";".into()), group: Some("id".into()), ..spec() };
    let bytes = "id,label\n1,a; b\n2,零;\n3,a;a;c\n".as_bytes();
    assert_eq!(lines(bytes, &several), ["im/1.png=a+b@1", "im/2.png=零@2", "im/3.png=a+c@3"]);
    assert_eq!(lines(b"id,label\n1,a b\n", &spec()), ["im/1.png=a b"]);
    // None is a number of labels too, where they are divided.
    assert_eq!(lines(b"id,label\n1,a\n2,\n3,;\n", &several), ["im/1.png=a@1", "im/2.png=@2", "im/3.png=@3"]);
    assert_eq!(error(b"id,label\n1,\n2,;\n", &several), "`t.csv` has no label in the column `label`");
}

#[test]
fn what_is_too_long_for_a_name_is_refused_with_its_column() {
    let all = Spec { display: Some("d".into()), group: Some("g".into()), ..spec() };
    let row = |label: &str, display: &str, group: &str| format!("id,label,d,g\n1,{label},{display},{group}\n");
    let (long, most) = ("零".repeat(1001), "零".repeat(1000));
    assert!(read_bytes(row(&most, &most, &most).as_bytes(), &all).is_ok());
    for (column, rows) in [("label", row(&long, "x", "x")), ("d", row("x", &long, "x")), ("g", row("x", "x", &long))] {
        let told = format!("`t.csv` line 2: the column `{column}` has 1001 characters, more than the 1000 of a name");
        assert_eq!(error(rows.as_bytes(), &all), told);
    }
    let row = |length: usize| format!("id,label,c\n1,a,\"\n{}\"\n", "x".repeat(length - 7));
    assert!(read_bytes(row(1 << 20).as_bytes(), &spec()).is_ok());
    let told = "`t.csv`: the row from line 2 on has more than 1048576 bytes";
    assert_eq!(error(row((1 << 20) + 1).as_bytes(), &spec()), told);
    let wide = format!("id,label\n1,a{}\n", ",".repeat(1 << 20));
    assert_eq!(error(wide.as_bytes(), &spec()), told);
    let broken = format!("id,label\n1,a{}\n", ",\"\n\"".repeat(1 << 18));
    assert_eq!(error(broken.as_bytes(), &spec()), told);
    let header = |n: usize| format!("id,label{}\n1,a{}\n", ",".repeat(n - 2), ",".repeat(n - 2));
    assert!(read_bytes(header(10_000).as_bytes(), &spec()).is_ok());
    assert_eq!(error(header(10_001).as_bytes(), &spec()), "`t.csv` has 10001 columns, and at most 10000 are read");
}

#[test]
fn more_labels_of_an_image_than_are_sensible_are_refused() {
    let several = Spec { label_separator: Some(";".into()), ..spec() };
    let row = |first: usize, n: usize| (first..first + n).map(|i| i.to_string()).collect::<Vec<_>>().join(";");
    let found = read_bytes(format!("id,label\n1,{};1\n", row(0, 1000)).as_bytes(), &several).expect("valid");
    assert_eq!(found.records[0].labels.len(), 1000);
    let told = error(format!("id,label\n1,a\n2,{}\n", row(0, 1001)).as_bytes(), &several);
    assert_eq!(told, "`t.csv` line 3: an image with more than 1000 labels");
}

#[test]
fn an_empty_group_is_unknown() {
    let grouped = Spec { group: Some("g".into()), ..spec() };
    assert_eq!(lines(b"id,label,g\n1,a,\n2,b,w\n", &grouped), ["im/1.png=a", "im/2.png=b@w"]);
}

#[test]
fn a_template_makes_no_more_of_a_table_than_it_may() {
    let image = |template: String| Spec { image: Some(template), ..spec() };
    let twice = image("{id}{id}.png".into());
    let row = |length: usize| format!("id,label\n{},a\n", "x".repeat(length));
    assert_eq!(read_bytes(row(2046).as_bytes(), &twice).expect("4096 bytes").records[0].path.len(), 4096);
    assert_eq!(error(row(2047).as_bytes(), &twice), "`t.csv` line 2: the path of its image has more than 4096 bytes");
    // 100 kB of rows would become 48 MB of paths.
    let rows: String = (0..12_000).map(|id| format!("{id:05},a\n")).collect();
    let text = error(format!("id,label\n{rows}").as_bytes(), &image(format!("{}{{id}}", "x/".repeat(2000))));
    assert_eq!(
        text,
        "`t.csv`: up to line 4574, the paths of its images have 18314865 bytes, many times the table's own"
    );
    let usual = image(format!("{}{{id}}.png", "images/of/writers/".repeat(3)));
    assert_eq!(read_bytes(format!("id,label\n{rows}").as_bytes(), &usual).expect("read").records.len(), 12_000);
}

#[test]
fn display_names_belong_to_labels() {
    let shown = Spec { display: Some("d".into()), label_separator: Some(" ".into()), ..spec() };
    let found = read_bytes("id,label,d\n1,9,九\n2,9 8,九 八\n".as_bytes(), &shown).expect("valid");
    assert_eq!(found.display.into_iter().collect::<Vec<_>>(), [("8".into(), "八".into()), ("9".into(), "九".into())]);
    let conflict = error(b"id,label,d\n1,9,x\n2,9,y\n", &shown);
    assert_eq!(conflict, "`t.csv` line 3: the label `9` is displayed as `y`, further up as `x`");
    assert_eq!(error(b"id,label,d\n1,9 8,x\n", &shown), "`t.csv` line 2: 2 labels but 1 display name");
}

#[test]
fn missing_columns_are_named_with_those_that_exist() {
    assert_eq!(error(b"id,Label,x\n1,a,2\n", &spec()), "`t.csv` has no column `label`, only `id`, `Label`, `x`");
    assert_eq!(error(b"id,label,label\n1,a,b\n", &spec()), "`t.csv` has several columns called `label`");
    let wide = (0..300).map(|i| format!("{i}{}", "x".repeat(70))).collect::<Vec<_>>().join(",");
    let told = error(wide.as_bytes(), &spec());
    assert!(told.contains("`19xxx") && told.ends_with("x...` and 280 more") && told.len() < 2000, "{told}");
    assert_eq!(error(b"a,label\n1,a\n", &spec()), "`t.csv` has no column `id`, only `a`, `label`");
    let grouped = Spec { group: Some("writer".into()), ..spec() };
    assert_eq!(error(b"id,label\n1,a\n", &grouped), "`t.csv` has no column `writer`, only `id`, `label`");
}

#[test]
fn errors_name_their_line() {
    let length = |line| format!("`t.csv` line {line}: 3 fields, the header has 2");
    assert_eq!(error(b"id,label\n1,a\n2,b,c\n", &spec()), length(3));
    assert_eq!(error(b"id,label\r\n1,a\r\n2,b,c\r\n", &spec()), length(3));
    assert_eq!(error(b"\nid,label\n\n1,a\n\n2,b,c\n", &spec()), length(6));
    assert_eq!(error(b"id,label\n1,\"a\nb\"\n2,b,c\n", &spec()), length(4));
    assert_eq!(error(b"id,label\n1,a\n2\n", &spec()), "`t.csv` line 3: 1 field, the header has 2");
    assert_eq!(error(b"id,label\n1,a\n2,\xFF\n", &spec()), "`t.csv` line 3: the text is not valid UTF-8");
    assert_eq!(error(b"id,l\xE9bel\n1,a\n", &spec()), "`t.csv` line 1: the text is not valid UTF-8");
    assert_eq!(error(b"id,label\n1,a\n2,\n", &spec()), "`t.csv` line 3: the column `label` is empty");
    assert_eq!(error(b"id,label\n,a\n", &spec()), "`t.csv` line 2: the column `id` is empty");
    assert_eq!(
        error(b"id,label\n1,a\n2,a\n1,a\n", &spec()),
        "`t.csv` line 4: the image `im/1.png` was already listed on line 2"
    );
}

#[test]
fn characters_cut_by_a_separator_are_found() {
    // Both halves together would be valid.
    assert!(error(b"id,label\n\xC3,\xA9\n", &spec()).contains("not valid UTF-8"));
}

#[test]
fn rows_cannot_leave_the_folder() {
    let free = Spec { image: Some("{id}".into()), ..spec() };
    for id in ["../x.png", "/etc/passwd", "a/../../b", "C:\\x", "..\\x", "."] {
        let table = format!("id,label\n{id},a\n");
        assert!(error(table.as_bytes(), &free).ends_with("lies outside the data set"), "{id}");
    }
    assert_eq!(lines(b"id,label\nsub/x.png,a\n", &free), ["sub/x.png=a"]);
}

#[test]
fn tables_that_are_none() {
    assert!(error(b"\xFF\xFEi\0d\0", &spec()).contains("UTF-16"));
    let written_anew: [&[u8]; 3] =
        [b"\"sep=;\"\nid;label\n1;a\n", b"SEP=,\nid,label\n1,a\n", b"sep=;,,,\nid,label\n1,a\n"];
    for told in written_anew {
        assert!(error(told, &spec()).contains("names a separator"), "{told:?}");
    }
    for told in [&b"sep=;\r\nid;label\n1;a\n"[..], b"\xEF\xBB\xBFsep=,\nid,label\n1,a\n", b"\nsep=\t\nid\tlabel\n"] {
        assert_eq!(error(told, &spec()), "the first line of `t.csv` names a separator (`sep=`) instead of columns");
    }
    for table in [&b"id;sep=;label\n1;;a\n"[..], b"sep=x;id;label\n;1;a\n"] {
        assert_eq!(lines(table, &spec()).len(), 1);
    }
    for blank in [&b""[..], b"\xEF\xBB\xBF", b"\n\r\n\n", b" \n\t"] {
        assert_eq!(error(blank, &spec()), "`t.csv` is empty: it has no header");
    }
    for header in [&b"id,label"[..], b"id,label\n", b"id,label\n\n,\n"] {
        assert_eq!(error(header, &spec()), "`t.csv` lists no images: it has no row below its header");
    }
    for bytes in [&b""[..], b"id,label\n"] {
        let hint = read_bytes(bytes, &spec()).expect_err("no rows").hint();
        assert!(hint.is_some_and(|hint| hint.starts_with("the first line names the columns")), "{hint:?}");
    }
    let absent = read("/".as_ref(), "/no/such/t.csv".as_ref(), &spec()).expect_err("absent");
    assert!(matches!(absent, Error::Unreadable { .. }));
}

#[test]
fn descriptions_must_be_complete() {
    let without_image = Spec { image: None, ..spec() };
    assert!(error(b"id,label\n1,a\n", &without_image).ends_with("lacks `image`"));
    let without_label = Spec { label: None, ..spec() };
    assert!(error(b"id,label\n1,a\n", &without_label).ends_with("lacks `label`"));
}

#[test]
fn a_quote_that_is_never_closed_loses_no_rows() {
    let refused = |text: &str| error(text.as_bytes(), &spec());
    let told = |line| format!("`t.csv` line {line}: a field begins with a quote that is never closed");
    assert_eq!(refused("id,label,note\n1,a,x\n2,b,\"see page\n3,a,y\n4,b,z\n"), told(3));
    assert_eq!(refused("id,label\n1,\"a\"\"\n2,b\n"), told(2), "two within a field are one that belongs to it");
    assert_eq!(refused("id;label;note\n1;a;\"\n2;b;\n"), told(2));
    // Quotes within fields that begin without one mean nothing.
    let text = b"id,label,note\n1,a,5\"\" pipe\n2,b,12\"\n3,\"a\",\"\"\n4,a,\"x \"\"y\"\" z\"\n";
    assert_eq!(lines(text, &spec()).len(), 4);
}

proptest! {
    /// The reader of the crate and the look ahead agree on what is open: closing it changes no row before it.
    #[test]
    fn tables_that_are_refused_are_those_whose_end_is_in_quotes(
        rest in proptest::collection::vec(proptest::sample::select(vec!["\"", ",", "\n", "a", " ", "\r"]), 0..40),
    ) {
        let text = rest.concat();
        let rows = |text: &str| {
            let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
            reader.byte_records().map(|row| row.expect("bytes")).collect::<Vec<_>>()
        };
        // What follows an open quote is in the last field, as it stands there.
        let marked = format!("{text}\nMARK,MARK");
        let last = rows(&marked).pop().expect("a row");
        let is_swallowed = last.iter().next_back().is_some_and(|field| field.ends_with(b"\nMARK,MARK"));
        let judged = check_rows(Path::new("t.csv"), text.as_bytes(), b',');
        prop_assert_eq!(matches!(judged, Err(Error::OpenQuote { .. })), is_swallowed, "{:?}", text);
    }
}
