//! What the operating system says of this process.

use super::{Metric, count};

/// Ticks a second in `/proc`: fixed in Linux' interface to programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// Memory, processor time, threads and open files. Empty where there is no `/proc`.
pub(crate) fn of_process() -> Vec<Metric> {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return Vec::new() };
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    vec![
        Metric::gauge(
            "moim_process_resident_memory_bytes",
            "Resident memory of the process.",
            count(kilobytes(&status, "VmRSS:") * 1_024),
        ),
        Metric {
            kind: super::MetricKind::Counter,
            ..Metric::gauge(
                "moim_process_cpu_seconds_total",
                "Processor time of the process, in user and kernel mode.",
                count(cpu_ticks(&stat)) / TICKS_PER_SECOND,
            )
        },
        Metric::gauge(
            "moim_process_threads",
            "Threads of the process.",
            count(kilobytes(&status, "Threads:")),
        ),
        Metric::gauge("moim_process_open_files", "Open files and sockets.", count(files as u64)),
    ]
}

/// Resident memory of the process, 0 where there is no `/proc`.
pub(crate) fn memory_bytes() -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .map_or(0, |status| kilobytes(&status, "VmRSS:") * 1_024)
}

/// What is mapped of the program and its libraries, and counts as resident; 0 where there is no `/proc`.
pub(crate) fn program_bytes() -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .map_or(0, |status| kilobytes(&status, "RssFile:") * 1_024)
}

fn kilobytes(status: &str, field: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// User and kernel time. The second field is the program's name in brackets and may hold anything, so fields are
/// counted from the last bracket.
fn cpu_ticks(stat: &str) -> u64 {
    let Some((_, fields)) = stat.rsplit_once(')') else { return 0 };
    fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        assert_eq!(kilobytes("Name:\tmoim\nVmRSS:\t   12 kB\nThreads:\t3\n", "VmRSS:"), 12);
        assert_eq!(cpu_ticks("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0"), 42);
        assert_eq!(cpu_ticks(""), 0);
    }
}
