use super::*;
use proptest::prelude::*;

fn refused(code: &[u8]) -> Error {
    run(code).expect_err("this pickle must be refused")
}

#[test]
fn python_can_be_asked_for_nothing_else() {
    // What `os.system("touch canary")` pickles to, in protocols 2 and 4.
    let two = b"\x80\x02cposix\nsystem\nX\x0c\x00\x00\x00touch canary\x85R.";
    let four = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0ctouch canary\x85R.";
    for code in [&two[..], &four[..]] {
        assert!(matches!(refused(code), Error::ForbiddenGlobal { name, .. } if name == "posix.system"));
    }
    for name in ["builtins.eval", "torch.nn.modules.linear.Linear", "collections.OrderedDict.fromkeys", "torch._utils"]
    {
        let (module, function) = name.rsplit_once('.').unwrap();
        let code = format!("c{module}\n{function}\n.");
        assert!(matches!(refused(code.as_bytes()), Error::ForbiddenGlobal { name: n, offset: 0 } if n == name));
    }
}

#[test]
fn instructions_beyond_state_dicts_are_refused() {
    // INST, OBJ, NEWOBJ_EX, EXT1, PERSID, PUT, GET, BINBYTES, POP, DUP, FROZENSET, NEXT_BUFFER, and no opcode.
    for opcode in [b'i', b'o', 0x92, 0x82, b'P', b'p', b'g', b'B', b'0', b'2', 0x91, 0x97, 0xff, 0x00] {
        assert!(matches!(refused(&[0x80, 2, opcode]), Error::ForbiddenOpcode { opcode: o, offset: 2 } if o == opcode));
    }
}

#[test]
fn nonsense_is_told_with_its_place() {
    let cases: [(&[u8], &str); 20] = [
        (b"", "it ends inside an instruction"),
        (b"\x80\x02", "it ends inside an instruction"),
        (b"\x80\x01N.", "the protocol is none of 2 to 5"),
        (b".", "the stack is empty"),
        (b"\x85.", "the stack is empty"),
        (b"N(\x85.", "the stack is empty"),
        (b"t.", "there is no mark"),
        (b"h\x07.", "the memo has no such entry"),
        (b"q\x07.", "the stack is empty"),
        (b"NNa.", "it appends to something that is no list"),
        (b"NNNs.", "it sets items of something that is no dict"),
        (b"}(Nu.", "a key has no value"),
        (b"NQ.", "a persistent id is no tuple"),
        (b")Q.", "a persistent id is no storage"),
        (b"N)R.", "it calls something that is no function"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n)R.", "a call has arguments of the wrong kinds"),
        (b"N}b.", "it sets the state of something that has none"),
        (b"ccollections\nOrderedDict\n)\x81.", "it makes an object of something that is no class"),
        (b"]q\x00X\x01\x00\x00\x00\xff.", "a string is not UTF-8"),
        (b"X\xff\xff\xff\xff.", "it ends inside an instruction"),
    ];
    for (code, expected) in cases {
        match refused(code) {
            Error::Pickle { problem, offset } => {
                assert_eq!(problem, expected, "{code:?}");
                assert!(offset <= code.len());
            }
            other => panic!("{code:?}: {other}"),
        }
    }
}

#[test]
fn integers_have_their_signs() {
    let cases: [(&[u8], i64); 7] = [
        (b"K\xff.", 255),
        (b"M\x00\x80.", 32768),
        (b"J\xff\xff\xff\xff.", -1),
        (b"\x8a\x00.", 0),
        (b"\x8a\x01\xff.", -1),
        (b"\x8a\x02\xff\x00.", 255),
        (b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80.", i64::MIN),
    ];
    for (code, expected) in cases {
        let built = run(code).unwrap();
        assert!(matches!(built.get(built.root), Value::Int(n) if *n == expected), "{code:?}");
    }
    assert!(matches!(refused(b"\x8a\x09123456789."), Error::Pickle { .. }));
}

#[test]
fn nesting_and_repetition_stay_cheap() {
    // Lists inside each other, and a list that doubles itself 60 times through the memo.
    let deep = |n: usize| [vec![b']'; n], vec![b'a'; n - 1], vec![b'.']].concat();
    assert!(run(&deep(90_000)).is_ok());
    // Whatever an instruction leaves: values, marks, entries of the memo, what is recalled from there.
    for many in [&b"}"[..], b"K\x01", b"(", b"Nq\x00", b"h\x00"] {
        let code = [&b"Nq\x00"[..], &many.repeat(600_000)].concat();
        assert!(refused(&code).to_string().contains("more values than any state dict has"), "{many:?}");
    }
    // What containers hold counts too, though nothing of it is left elsewhere.
    let of_known = |begin: &[u8], n: usize, end: &[u8]| [begin, &b"h\x00".repeat(n), end].concat();
    for (what, begin, end) in [("dict", &b"("[..], &b"u"[..]), ("list", b"(", b"e"), ("tuple", b"(", b"t")] {
        let container = if what == "list" { b"]" } else { b"}" };
        let code = [&b"Nq\x00"[..], container, &of_known(begin, 50_000, end).repeat(5), b"."].concat();
        assert!(refused(&code).to_string().contains("more values than any state dict has"), "{what}");
    }
    assert!(run(&deep(1_000_000)).is_err());
    let mut bomb = b"N".to_vec();
    for key in 0..60 {
        bomb.extend([b'q', key, b'h', key, 0x86]);
    }
    bomb.push(b'.');
    assert!(run(&bomb).is_ok());
    // A list that holds itself.
    assert!(run(b"]q\x00h\x00a.").is_ok());
}

proptest! {
    #[test]
    fn bytes_never_panic(code in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = run(&code);
    }

    // Mostly valid instructions reach further.
    #[test]
    fn instructions_never_panic(code in proptest::collection::vec(
        proptest::sample::select(b"N()]}taesuqh\x85\x86\x87\x81QRbK\x01\x94\x88.".to_vec()), 0..64))
    {
        let _ = run(&code);
    }
}
