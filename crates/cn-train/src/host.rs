//! What the machine is, and what the clock says.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Largest resident memory of this process in MiB, where the system tells; else 0.
pub(crate) fn peak_rss_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    kib_of(&status, "VmHWM:").map_or(0, |kib| kib / 1024)
}

/// Resident memory of this process in bytes, where the system tells; else 0.
pub(crate) fn rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    kib_of(&status, "VmRSS:").map_or(0, |kib| kib << 10)
}

/// Memory in bytes that this process may still take: what the machine has free or can free, or less where a control
/// group allows less. `None` where the system does not tell.
pub(crate) fn available_memory() -> Option<u64> {
    let machine = kib_of(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")? << 10;
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let left = groups.lines().filter_map(group_left).chain(limit_left(&limits, &status));
    Some(left.fold(machine, u64::min))
}

/// Address space that threads to come reserve and do not use: stacks, and what the allocator keeps for each. Measured: 144
/// MiB at most.
const RESERVED: u64 = 160 << 20;

/// Address space that the limit of this process (`ulimit -v`) leaves, by its tables of `/proc`.
fn limit_left(limits: &str, status: &str) -> Option<u64> {
    let row = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    let limit: u64 = row.split_whitespace().next()?.parse().ok()?; // `unlimited` is none.
    Some(limit.saturating_sub((kib_of(status, "VmSize:")? << 10) + RESERVED))
}

/// What the control group of a line of `/proc/self/cgroup`, and those around it, leave.
fn group_left(line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, group) = (parts.next()?, parts.next()?.trim_start_matches('/'));
    let (root, limit, usage) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max", "memory.current"),
        _ if controllers.split(',').any(|name| name == "memory") => {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
        }
        _ => return None,
    };
    let root = Path::new(root);
    // In a container, the group's own path is often the root of what can be seen.
    let folders = root.join(group);
    let folders = folders.ancestors().take_while(|folder| folder.starts_with(root));
    folders.filter_map(|folder| left_in(folder, limit, usage)).min()
}

/// Limit without use; files that the system caches can be dropped, so that they do not count.
fn left_in(folder: &Path, limit: &str, usage: &str) -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    let limit: u64 = read(limit)?.trim().parse().ok()?;
    let usage: u64 = read(usage)?.trim().parse().ok()?;
    let stat = read("memory.stat").unwrap_or_default();
    let of = |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    let cached = of("total_inactive_file ").or_else(|| of("inactive_file ")).unwrap_or(0);
    Some(limit.saturating_sub(usage.saturating_sub(cached)))
}

/// The number of kibibytes behind `name` in a table of `/proc`.
fn kib_of(table: &str, name: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Begins the peak of [`peak_rss_mib`] anew with the present memory, where the system can.
pub(crate) fn reset_peak_rss() {
    let _ = std::fs::write("/proc/self/clear_refs", "5"); // As proc(5) has it; elsewhere the peak stays.
}

/// What the processor calls itself, where the system tells.
pub(crate) fn cpu_model() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// `runs/<date>-<recipe>`, with a number behind it if that is taken.
pub(crate) fn new_run_folder(recipe: &str) -> PathBuf {
    let name = format!("{}-{recipe}", &now()[..10]);
    let numbered = (2..).map(|i| format!("{name}-{i}"));
    let mut folders = std::iter::once(name.clone()).chain(numbered).map(|name| Path::new("runs").join(name));
    folders.find(|folder| !folder.exists()).expect("there are more numbers than folders")
}

/// The folders that runs of a recipe got without a name, the oldest first.
pub(crate) fn run_folders(recipe: &str) -> Vec<PathBuf> {
    // As `new_run_folder` makes them: the date, the recipe, and a number from 2.
    let place = |path: PathBuf| {
        let name = path.file_name()?.to_str()?;
        let (date, rest) = (name.get(..10)?, name.get(10..)?.strip_prefix('-')?.strip_prefix(recipe)?);
        let number: u32 = if rest.is_empty() { 1 } else { rest.strip_prefix('-')?.parse().ok()? };
        date.bytes().all(|b| b.is_ascii_digit() || b == b'-').then(|| (date.to_owned(), number, path.clone()))
    };
    let entries = std::fs::read_dir("runs").into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<_> = entries.filter_map(|entry| place(entry.path())).collect();
    found.sort_unstable();
    found.into_iter().map(|(_, _, path)| path).collect()
}

/// The time in UTC, as `2026-01-31T12:00:00Z`.
pub(crate) fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    timestamp(seconds)
}

fn timestamp(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Year, month and day of a number of days since 1970-01-01, after Howard Hinnant's `civil_from_days`.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // Since 0000-03-01, so that leap days end a year.
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153; // From March.
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_leaves_its_limit_without_what_it_uses() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        let left = || left_in(folder.path(), "memory.max", "memory.current");
        assert_eq!(left(), None);
        write("memory.current", "700\n");
        write("memory.max", "max\n");
        assert_eq!(left(), None, "no limit");
        write("memory.max", "1000\n");
        assert_eq!(left(), Some(300));
        write("memory.stat", "anon 500\ninactive_file 150\n");
        assert_eq!(left(), Some(450));
        write("memory.max", "400\n");
        assert_eq!(left(), Some(0));
        assert_eq!(kib_of("MemTotal:  5 kB\nMemAvailable:   12 kB\n", "MemAvailable:"), Some(12));
        assert!(group_left("3:cpu,cpuacct:/x").is_none());
    }

    #[test]
    fn a_limit_leaves_what_is_not_mapped() {
        let limits =
            |soft: &str| format!("Limit  Soft Limit  Hard Limit  Units\nMax address space  {soft}  unlimited  bytes\n");
        let status = "VmPeak:\t 9 kB\nVmSize:\t 3 kB\n";
        let reserved = |more: u64| (RESERVED + more).to_string();
        assert_eq!(limit_left(&limits(&reserved(4096)), status), Some(1024));
        assert_eq!(limit_left(&limits("2048"), status), Some(0));
        assert_eq!(limit_left(&limits("unlimited"), status), None);
    }

    #[test]
    fn timestamps_know_leap_years() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
        ] {
            assert_eq!(timestamp(seconds), expected);
        }
    }
}
