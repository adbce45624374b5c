//! Checkpoints whose checksum is right, so that everything behind it is reached too: reading, going to that state, and
//! going on from there.
//!
//! Bytes that begin with `{` are the record of a checkpoint alone, which gets tensors that fit.
#![no_main]

use candle_core::{DType, Device, Tensor};
use cn_augment::{Normalisation, Policy};
use cn_data::{Dataset, Index, Pixels, Record, Split};
use cn_learn::{BatchConfig, Batches, Checkpoint, Flow, Handler, Learner, LearnerConfig, Phase, Rates, Step};
use cn_ops::{BatchNorm, Conv2d, Conv2dConfig, Flatten, Linear, Network, Relu, Sequential};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

const SIDE: usize = 4;
const DIGEST_LEN: usize = 32;

static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = PathBuf::from("/dev/shm");
    let folder = if folder.is_dir() { folder } else { std::env::temp_dir() };
    folder.join(format!("cn-fuzz-checkpoint-{}", std::process::id()))
});

/// Eight images that train in batches of two, and two that judge.
fn batches() -> Batches {
    let record = |id: usize| Record { path: id.to_string(), labels: vec![(id % 3).to_string()], group: None };
    let index = Index::from_records("dots", "", (0..10).map(record).collect()).expect("distinct names");
    let bytes = (0..10 * SIDE * SIDE).map(|i| (i * 37 % 251) as u8).collect();
    let pixels = Pixels::uniform(bytes, [SIDE, SIDE, 1]).expect("whole images");
    let split = Split::from_parts((0..8).collect(), vec![8, 9], 10).expect("disjoint");
    let dataset = Arc::new(Dataset::new(index, pixels, split).expect("fits"));
    let side = SIDE as u32;
    let config = BatchConfig {
        batch_size: 2,
        eval_batch_size: 2,
        channels: 1,
        normalisation: Normalisation::new(&[0.5], &[0.3]).expect("numbers"),
        ..BatchConfig::new(Policy::whole(side).expect("a policy"), Policy::whole(side).expect("a policy"))
    };
    Batches::new(dataset, config, 42).expect("batches")
}

fn network() -> Network {
    let tensor = |shape: &[usize]| {
        let n: usize = shape.iter().product();
        let values = (0..n).map(|i| ((i * 7919 + 13) % 101) as f32 / 101.0 - 0.5).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).expect("memory")
    };
    let ones = Tensor::ones(2, DType::F32, &Device::Cpu).expect("memory");
    let conv = Conv2dConfig { stride: [1, 1], padding: [1, 1] };
    let layers = Sequential::new()
        .push("conv", Conv2d::new(tensor(&[2, 1, 3, 3]), conv).expect("a layer"))
        .push("norm", BatchNorm::new(ones.clone(), ones).expect("a layer"))
        .push("relu", Relu::new())
        .push("flat", Flatten::new())
        .push("head", Linear::new(tensor(&[3, 2 * SIDE * SIDE])).expect("a layer"));
    Network::new(layers, |name| usize::from(name.starts_with("head"))).expect("a network")
}

/// Ends a fit after so many steps.
struct StopAfter(usize);

impl Handler for StopAfter {
    fn name(&self) -> &'static str {
        "stop"
    }

    fn on_step(&mut self, _: &mut Step<'_>) -> cn_learn::Result<Flow> {
        self.0 -= 1;
        Ok(if self.0 == 0 { Flow::Stop } else { Flow::Continue })
    }
}

/// Learners without and with an average of their weights, and the file of a checkpoint from the middle of the second phase
/// of the latter.
struct State {
    learners: [Learner<Network>; 2],
    header: Map<String, Value>,
    data: Vec<u8>,
}

impl State {
    fn new() -> Self {
        let mut learners = [None, Some(0.9)].map(|ema| {
            let config = LearnerConfig { ema, ..LearnerConfig::multi_label(0.5) };
            Learner::new(network(), batches(), config).expect("a learner")
        });
        let phases = [
            Phase { frozen: Some(true), ..Phase::one_cycle(1, Rates::Last { last: 1e-2 }) },
            Phase { frozen: Some(false), ..Phase::one_cycle(2, Rates::Slice(1e-4, 1e-2)) },
        ];
        for learner in &mut learners {
            learner.fit(&phases, &mut [&mut StopAfter(6)]).expect("trained");
        }
        let checkpoint = learners[1].checkpoint().expect("a checkpoint").with_extra("run".into());
        checkpoint.write(&PATH).expect("written");
        let bytes = std::fs::read(&*PATH).expect("read");
        let (length, rest) = bytes.split_first_chunk::<8>().expect("a length");
        let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
        let header = serde_json::from_slice(header).expect("JSON");
        Self { learners, header, data: data[..data.len() - DIGEST_LEN].to_vec() }
    }

    /// The bytes of a file with this record, without the digest.
    fn with_record(&self, record: &str) -> Vec<u8> {
        let mut header = self.header.clone();
        header.insert("__metadata__".into(), serde_json::json!({ "cn-learn": record }));
        let mut header = serde_json::to_vec(&header).expect("JSON");
        header.resize(header.len().next_multiple_of(8), b' ');
        [&(header.len() as u64).to_le_bytes()[..], &header, &self.data].concat()
    }

    fn judge(&mut self, content: &[u8]) {
        std::fs::write(&*PATH, [content, &Sha256::digest(content)].concat()).expect("written");
        let Ok(checkpoint) = Checkpoint::read(&PATH) else { return };
        let again = PATH.with_extension("again");
        checkpoint.write(&again).expect("what was read can be written");
        let same = Checkpoint::read(&again).expect("what was written can be read");
        assert_eq!(same.position(), checkpoint.position());
        for learner in &mut self.learners {
            if learner.restore(&checkpoint).is_ok() {
                let _ = learner.resume(&mut [&mut StopAfter(2)]);
                let _ = learner.evaluate();
                let _ = learner.checkpoint();
            }
        }
    }
}

thread_local! {
    static STATE: RefCell<State> = RefCell::new(State::new());
}

fuzz_target!(|bytes: &[u8]| {
    STATE.with_borrow_mut(|state| match std::str::from_utf8(bytes) {
        Ok(record) if record.starts_with('{') => state.judge(&state.with_record(record)),
        _ => state.judge(bytes),
    });
});
