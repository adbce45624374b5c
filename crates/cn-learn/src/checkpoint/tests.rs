use super::*;
use crate::testing::learner;
use candle_core::DType;
use proptest::{collection::vec, prelude::*, sample::Index};
use std::sync::LazyLock;

fn bytes_of(checkpoint: &Checkpoint) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.safetensors");
    checkpoint.write(&path).expect("written");
    std::fs::read(path).expect("read")
}

fn read_bytes(bytes: &[u8]) -> Result<Checkpoint> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.safetensors");
    std::fs::write(&path, bytes).expect("written");
    Checkpoint::read(&path)
}

#[test]
fn what_was_written_is_read() -> Result<()> {
    let mut learner = learner()?;
    learner.fit(&crate::testing::two_phases(), &mut [])?;
    let checkpoint = learner.checkpoint()?.with_extra(serde_json::json!({ "data": "bars" }));
    let again = read_bytes(&bytes_of(&checkpoint))?;
    assert_eq!((again.extra()["data"].as_str(), again.is_finished(), again.history().len()), (Some("bars"), true, 2));
    assert_eq!(bytes_of(&again), bytes_of(&checkpoint));
    Ok(())
}

#[test]
fn it_is_a_safetensors_file() -> Result<()> {
    let mut learner = learner()?;
    let bytes = bytes_of(&learner.checkpoint()?);
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("the format");
    assert_eq!(tensors.tensor("model.conv.weight").map(|t| t.shape().to_vec()).ok(), Some(vec![6, 1, 3, 3]));
    assert!(tensors.tensor("model.norm.running_var").is_ok() && tensors.tensor("adam.v").is_ok());
    Ok(())
}

#[test]
fn a_flipped_bit_or_a_cut_is_noticed_anywhere() -> Result<()> {
    let bytes = bytes_of(&learner()?.checkpoint()?);
    for i in 0..100 {
        let at = bytes.len() * i / 100;
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (i % 8);
        assert!(matches!(read_bytes(&flipped), Err(Error::CheckpointDamaged { .. })), "byte {at}");
        assert!(matches!(read_bytes(&bytes[..at]), Err(Error::CheckpointDamaged { .. })), "cut at {at}");
    }
    Ok(())
}

#[test]
fn another_format_is_told_from_damage() -> Result<()> {
    let mut checkpoint = learner()?.checkpoint()?;
    checkpoint.record.format = 99;
    let error = read_bytes(&bytes_of(&checkpoint)).expect_err("a format of the future");
    assert_eq!(error.to_string(), "the checkpoint has format 99, expected 1");
    assert!(error.hint().is_some());
    Ok(())
}

#[test]
fn a_failed_write_leaves_the_old_file_and_nothing_else() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.safetensors");
    let checkpoint = learner()?.checkpoint()?;
    checkpoint.write(&path)?;
    let old = std::fs::read(&path).expect("read");
    // A folder in the way of the temporary file.
    std::fs::create_dir(folder.path().join(".c.safetensors.tmp")).expect("a folder");
    assert!(matches!(checkpoint.write(&path), Err(Error::CheckpointFile { action: "write", .. })));
    assert_eq!(std::fs::read(&path).expect("read"), old);

    std::fs::remove_dir(folder.path().join(".c.safetensors.tmp")).expect("removed");
    checkpoint.write(&path)?;
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
    assert!(checkpoint.write(&folder.path().join("none/c")).is_err());
    assert!(matches!(Checkpoint::read(&folder.path().join("none")), Err(Error::CheckpointFile { action: "read", .. })));
    Ok(())
}

#[test]
fn what_others_read_stays_text_until_they_do() -> Result<()> {
    let mut checkpoint = learner()?.checkpoint()?;
    // A tree of these values would take 60 MB.
    let crafted = format!("[{}0]", r#"{"":0},"#.repeat(100_000));
    let text = RawValue::from_string(crafted.clone()).expect("JSON");
    checkpoint.record.handlers.insert("recorder".into(), text);
    assert_eq!(read_bytes(&bytes_of(&checkpoint))?.record.handlers["recorder"].get(), crafted);
    checkpoint.record.extra = serde_json::from_str(&crafted).expect("JSON");
    let told = read_bytes(&bytes_of(&checkpoint)).expect_err("too long").to_string();
    assert!(told.contains("`extra` has more than 262144 bytes"), "{told}");
    Ok(())
}

type Spoil = fn(&mut Record);

#[test]
fn what_no_run_writes_is_refused_before_anything_changes() -> Result<()> {
    let mut learner = learner()?;
    learner.fit(&crate::testing::two_phases(), &mut [])?;
    let whole = learner.checkpoint()?;
    let bits = crate::testing::bits(&mut learner)?;
    let spoilt: [(&str, Spoil); 14] = [
        ("position", |r| r.position.phase = 3),
        ("position", |r| r.position = Position { phase: 1, epoch: usize::MAX, ..r.position }),
        ("position", |r| r.position = Position { phase: 0, step: 7, ..r.position }),
        ("position", |r| r.position.step = 1),
        ("position", |r| r.position.epochs_done = u32::MAX),
        ("position", |r| r.position.steps_done = u64::MAX),
        ("number of steps", |r| r.adam_steps[0] = u32::MAX),
        ("number of steps", |r| r.position.steps_done = 3),
        ("number of steps", |r| {
            r.adam_steps.fill(0);
            r.position = Position { phase: 1, phase_started: true, step: 1, ..r.position };
        }),
        ("number of frozen groups", |r| r.frozen_groups = 1_000_000),
        ("epochs", |r| r.plan[0].epochs = usize::MAX),
        ("lr", |r| r.plan[1].lr = crate::Rates::Slice(1e-300, 1e300)),
        ("scale of the rates", |r| r.lr_scale = f64::NAN),
        ("momentum", |r| r.momentum = 1.0),
    ];
    for (what, spoil) in spoilt {
        let mut checkpoint = whole.clone();
        spoil(&mut checkpoint.record);
        let error = learner.restore(&checkpoint).expect_err(what).to_string();
        assert!(error.contains(what), "{what}: {error}");
        assert_eq!(crate::testing::bits(&mut learner)?, bits, "{what}");
    }
    for value in [f32::NAN, f32::INFINITY] {
        let mut tensors = whole.weights.tensors().to_vec();
        let (name, last) =
            tensors.iter_mut().rfind(|(_, tensor)| tensor.dtype() == DType::F32).expect("a model has some");
        *last = (last.ones_like()? * f64::from(value))?;
        let name = name.clone();
        let checkpoint = Checkpoint { weights: Weights::from_tensors(tensors), ..whole.clone() };
        let error = learner.restore(&checkpoint).expect_err("not finite").to_string();
        assert!(error.contains(&format!("`{name}` with NaN")), "{error}");
        let adam = [whole.adam[0].clone(), (whole.adam[1].ones_like()? * f64::from(value))?];
        let error = learner.restore(&Checkpoint { adam, ..whole.clone() }).expect_err("not finite").to_string();
        assert!(error.contains("`adam.v` with NaN"), "{error}");
        assert_eq!(crate::testing::bits(&mut learner)?, bits, "{value}");
    }
    let mut tensors = whole.weights.tensors().to_vec();
    tensors[0].1 = tensors[0].1.to_dtype(DType::U32)?;
    let name = tensors[0].0.clone();
    let other = Checkpoint { weights: Weights::from_tensors(tensors), ..whole.clone() };
    let told = learner.restore(&other).expect_err("of another type").to_string();
    assert!(told.contains(&format!("the set of tensors is `{name}` of U32")), "{told}");
    let adam = [whole.adam[0].clone(), whole.adam[1].affine(-1.0, -1.0)?];
    let told = learner.restore(&Checkpoint { adam, ..whole.clone() }).expect_err("no squares").to_string();
    assert!(told.contains("second moments"), "{told}");
    assert_eq!(crate::testing::bits(&mut learner)?, bits);
    learner.restore(&whole)
}

#[test]
fn headers_that_no_run_writes_are_refused_before_memory_is_taken() -> Result<()> {
    let bytes = bytes_of(&learner()?.checkpoint()?);
    let header_len = u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
    let (header, data) = (&bytes[8..8 + header_len], &bytes[8 + header_len..bytes.len() - 32]);
    let with = |header: &[u8]| {
        let content = [&(header.len() as u64).to_le_bytes()[..], header, data].concat();
        let digest = <sha2::Sha256 as sha2::Digest>::digest(&content);
        match read_bytes(&[&content[..], &digest].concat()).expect_err("refused") {
            Error::CheckpointDamaged { reason, .. } => reason,
            other => panic!("{other}"),
        }
    };
    let more = |names: &mut dyn Iterator<Item = String>| {
        let more: String =
            names.map(|n| format!(r#","{n}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#)).collect();
        let text = String::from_utf8(header.to_vec()).expect("UTF-8");
        format!("{}{more}}}", text.trim_end().strip_suffix('}').expect("an object")).into_bytes()
    };
    let many = more(&mut (0..10_000).map(|i| format!("t{i}")));
    // However their keys are written.
    let other = String::from_utf8(many.clone()).expect("UTF-8").replace("data_offsets", "data\\u005foffsets");
    for header in [many, other.into_bytes()] {
        assert_eq!(with(&header), "it holds more than 10000 tensors");
    }
    let told = with(&more(&mut std::iter::once("t".to_owned())));
    assert_eq!(told, "it holds `t`, which is no tensor of a checkpoint");
    let told = with(&[header, &vec![b' '; 32 << 20]].concat());
    assert!(told.starts_with("its header has 3355"), "{told}");
    Ok(())
}

#[test]
fn every_tensor_is_aligned_to_its_elements() -> Result<()> {
    // An odd number of four bytes before eight bytes.
    let (a, b) =
        (Tensor::new(&[1f32, 2.0, 3.0], &candle_core::Device::Cpu)?, Tensor::new(7i64, &candle_core::Device::Cpu)?);
    let weights = Weights::from_tensors(vec![("a".into(), a.clone()), ("b".into(), b)]);
    let mut checkpoint = Checkpoint { weights, adam: [a.clone(), a], ..learner()?.checkpoint()? };
    // Records of any length.
    for extra in ["", "1", "12", "123", "1234"] {
        checkpoint.record.extra = extra.into();
        let bytes = bytes_of(&checkpoint);
        let (header, _) = safetensors::SafeTensors::read_metadata(&bytes).expect("the format");
        assert_eq!((header + 8) % 8, 0, "the tensors begin aligned");
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("the format");
        for (name, view) in tensors.tensors() {
            let start = view.data().as_ptr() as usize - bytes.as_ptr() as usize;
            let size = view.data().len() / view.shape().iter().product::<usize>();
            assert!(start.is_multiple_of(size), "{name} at {start}, elements of {size}");
        }
        let again = read_bytes(&bytes)?;
        let count = again.weights.tensors().iter().find(|(name, _)| name == "b").expect("it was written");
        assert_eq!(count.1.to_scalar::<i64>()?, 7);
    }
    Ok(())
}

static WHOLE: LazyLock<Vec<u8>> =
    LazyLock::new(|| bytes_of(&learner().and_then(|mut l| l.checkpoint()).expect("a learner")));

proptest! {
    #[test]
    fn whatever_is_changed_is_noticed(
        changes in vec((any::<Index>(), any::<u8>()), 0..6), cut in proptest::option::of(any::<Index>()), more in vec(any::<u8>(), 0..9),
    ) {
        let mut bytes = WHOLE.clone();
        for (at, byte) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
        bytes.extend(more);
        match read_bytes(&bytes) {
            Ok(_) => prop_assert!(bytes == *WHOLE),
            Err(error) => prop_assert!(matches!(error, Error::CheckpointDamaged { .. }), "{}", error),
        }
    }
}
