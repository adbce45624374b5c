//! fastai's `RandomSplitter(seed)`, bit for bit: `torch.manual_seed`, `torch.randperm`, the first entries validate.

/// Training and validation ids in fastai's order; validation is the first `int(fraction * n)` of the permutation.
pub(super) fn random_split(n: usize, fraction: f64, seed: u64) -> (Vec<u32>, Vec<u32>) {
    let mut order = randperm(n as u32, seed);
    let train = order.split_off((fraction * n as f64) as usize);
    (train, order)
}

/// `torch.randperm(n)` on the CPU after `torch.manual_seed(seed)`, for n < 2^32 / 20.
///
/// One 32-bit draw an entry, reduced by a plain modulo as torch does.
fn randperm(n: u32, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n).collect();
    let mut generator = Mt19937::new(seed as u32);
    for i in 0..n.saturating_sub(1) {
        let step = generator.next_u32() % (n - i);
        order.swap(i as usize, (i + step) as usize);
    }
    order
}

const N: usize = 624;
const M: usize = 397;

/// The Mersenne Twister (Matsumoto and Nishimura 1998) with its initialisation of 2002 from one word.
struct Mt19937 {
    state: [u32; N],
    used: usize,
}

impl Mt19937 {
    fn new(seed: u32) -> Self {
        let mut state = [seed; N];
        for j in 1..N {
            let previous = state[j - 1];
            state[j] = (previous ^ previous >> 30).wrapping_mul(1_812_433_253).wrapping_add(j as u32);
        }
        Self { state, used: N }
    }

    fn next_u32(&mut self) -> u32 {
        if self.used == N {
            self.twist();
        }
        let mut y = self.state[self.used];
        self.used += 1;
        y ^= y >> 11;
        y ^= y << 7 & 0x9D2C_5680;
        y ^= y << 15 & 0xEFC6_0000;
        y ^ y >> 18
    }

    fn twist(&mut self) {
        for i in 0..N {
            let y = self.state[i] & 0x8000_0000 | self.state[(i + 1) % N] & 0x7FFF_FFFF;
            let odd = if y & 1 == 1 { 0x9908_B0DF } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ y >> 1 ^ odd;
        }
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn golden() -> Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/split.json");
        serde_json::from_str(&std::fs::read_to_string(path).expect("golden file")).expect("JSON")
    }

    fn numbers(value: &Value) -> Vec<u32> {
        value.as_array().expect("a list").iter().map(|v| v.as_u64().expect("a number") as u32).collect()
    }

    /// The sum over k of (k + 1) times entry k, modulo 2^32: sees the order too.
    fn position_checksum(ids: &[u32]) -> u64 {
        let sum = (1u32..).zip(ids).fold(0u32, |sum, (k, &id)| sum.wrapping_add(k.wrapping_mul(id)));
        u64::from(sum)
    }

    #[test]
    fn outputs_are_those_of_torch() {
        let mut generator = Mt19937::new(42);
        for expected in numbers(&golden()["mt19937_seed42_first_outputs"]) {
            assert_eq!(generator.next_u32(), expected);
        }
    }

    #[test]
    fn small_permutations_are_those_of_torch() {
        let golden = golden();
        let cases = golden["randperm_small"].as_object().expect("an object");
        assert!(cases.len() >= 25);
        for (case, expected) in cases {
            let (seed, n) = case.split_once(' ').expect("seed=S n=N");
            let seed = seed.trim_start_matches("seed=").parse().expect("a seed");
            let n = n.trim_start_matches("n=").parse().expect("a count");
            assert_eq!(randperm(n, seed), numbers(expected), "{case}");
        }
    }

    #[test]
    fn sizes_are_those_of_fastai() {
        let golden = golden();
        for (n, sizes) in golden["split_sizes_train_valid_by_n"].as_object().expect("an object") {
            let (train, val) = random_split(n.parse().expect("a count"), 0.2, 42);
            assert_eq!([train.len() as u32, val.len() as u32], numbers(sizes)[..], "{n}");
        }
    }

    #[test]
    fn a_hundred_rows_are_split_as_by_fastai() {
        let expected = &golden()["split_n100"];
        let (train, val) = random_split(100, 0.2, 42);
        assert_eq!((train, val), (numbers(&expected["train"]), numbers(&expected["valid"])));
    }

    #[test]
    fn the_data_set_is_split_as_by_fastai() {
        let golden = golden();
        let (train, val) = random_split(15_000, 0.2, 42);
        assert_eq!(val, numbers(&golden["n15000_valid"]));
        let expected = &golden["n15000"];
        let first = numbers(&expected["train_first"]);
        let last = numbers(&expected["train_last"]);
        assert_eq!(train[..first.len()], first);
        assert_eq!(train[train.len() - last.len()..], last);
        for (part, ids) in [("train", &train), ("valid", &val)] {
            let number = |key: &str| expected[key].as_u64().expect("a number");
            assert_eq!(ids.len() as u64, number(&format!("n_{part}")));
            assert_eq!(ids.iter().map(|&id| u64::from(id)).sum::<u64>(), number(&format!("{part}_sum")), "{part}");
            assert_eq!(position_checksum(ids), number(&format!("{part}_pos_checksum")), "{part}");
        }
    }
}
