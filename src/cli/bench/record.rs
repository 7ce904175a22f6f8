//! What was measured, as JSON and as a table.

use bytesize::ByteSize;
use relprop::{Backend, Error, ErrorKind, Result};
use serde::Serialize;

use super::contender::Contender;
use super::timing::{Shares, Timing};
use crate::cli::console::thousands;
use crate::cli::model::ModelArguments;
use crate::cli::table::table;

/// One backend at one batch size. Scripts read these keys.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    /// The model's file.
    pub model: String,
    /// The rules.
    pub composite: String,
    /// What computed.
    pub backend: String,
    /// The instruction set and threads, or the adapter.
    pub adapter: String,
    /// Samples a call.
    pub batch: usize,
    /// How often each was timed.
    pub repeats: usize,
    /// The median of an explanation, from samples in memory to relevance in memory.
    pub explain_s: f64,
    /// The median of inference alone.
    pub forward_s: f64,
    /// Samples explained a second.
    pub samples_per_s: f64,
    /// 10⁹ floating-point operations of an explanation's products.
    pub gflop: f64,
    /// The same a second.
    pub gflop_per_s: f64,
    /// The process's high-water mark; null where the system does not tell it.
    pub peak_memory_bytes: Option<u64>,
    /// What is held on the device: 0 on the CPU, null where it cannot be told.
    pub device_memory_bytes: Option<u64>,
    /// How a device spent its time, for the table; none on the CPU.
    #[serde(skip)]
    shares: Option<Shares>,
}

impl Record {
    /// A measurement with what it is of.
    pub fn new(model: &ModelArguments, contenders: &[Contender], timing: &Timing) -> Self {
        let contender = &contenders[timing.contender];
        let gflop = timing.operations as f64 / 1e9;
        Record {
            model: model.path.display().to_string(),
            composite: model.composite_name(),
            backend: contender.explainer.backend().to_string(),
            adapter: contender.adapter.clone(),
            batch: timing.batch,
            repeats: timing.repeats,
            explain_s: timing.explain,
            forward_s: timing.forward,
            samples_per_s: timing.batch as f64 / timing.explain,
            gflop,
            gflop_per_s: gflop / timing.explain,
            peak_memory_bytes: timing.peak_memory,
            device_memory_bytes: timing.device_memory,
            shares: (contender.explainer.backend() == Backend::Gpu).then_some(timing.shares),
        }
    }

    /// Samples a second of inference alone.
    pub fn forward_samples_per_s(&self) -> f64 {
        self.batch as f64 / self.forward_s
    }

    /// Whether two measurements are of one backend.
    pub fn is_of_the_backend_of(&self, other: &Record) -> bool {
        (&self.backend, &self.adapter) == (&other.backend, &other.adapter)
    }

    fn row(&self) -> Vec<String> {
        let rate =
            |samples: f64| if samples < 100.0 { format!("{samples:.1}") } else { thousands(samples.round() as usize) };
        let share = |part: Option<f64>| part.map_or_else(|| "–".to_owned(), |part| format!("{:.0} %", part * 100.0));
        vec![
            self.backend.clone(),
            self.adapter.clone(),
            thousands(self.batch),
            rate(self.forward_samples_per_s()),
            rate(self.samples_per_s),
            format!("{:.2}", self.explain_s / self.forward_s),
            format!("{:.1}", self.gflop_per_s),
            share(self.shares.map(|shares| shares.upload)),
            share(self.shares.and_then(|shares| shares.compute)),
            share(self.shares.map(|shares| shares.download)),
        ]
    }
}

/// What `--json` prints: the first backend's measurement at its largest batch, and all of them where there are several.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    #[serde(flatten)]
    main: &'a Record,
    #[serde(skip_serializing_if = "<[Record]>::is_empty")]
    runs: &'a [Record],
}

impl<'a> Document<'a> {
    /// The document of some measurements.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] without any, which does not happen.
    pub fn new(records: &'a [Record]) -> Result<Self> {
        let of_first = |record: &&Record| record.is_of_the_backend_of(&records[0]);
        let main = records.iter().filter(of_first).max_by_key(|record| record.batch).ok_or_else(|| {
            Error::new(ErrorKind::Internal, "nothing was timed").help("please report this fault in relprop")
        })?;
        Ok(Document { main, runs: if records.len() > 1 { records } else { &[] } })
    }
}

/// The measurements as a table.
pub fn text(records: &[Record]) -> String {
    let Some(first) = records.first() else { return String::new() };
    let head = [
        "backend",
        "adapter",
        "batch",
        "forward/s",
        "explain/s",
        "explain/forward",
        "GFLOP/s",
        "upload",
        "compute",
        "download",
    ];
    let rows: Vec<Vec<String>> =
        std::iter::once(head.map(str::to_owned).to_vec()).chain(records.iter().map(Record::row)).collect();
    let peak = records.iter().filter_map(|record| record.peak_memory_bytes).max();
    let peak = peak.map_or_else(String::new, |bytes| format!(", at most {} in memory", ByteSize::b(bytes)));
    format!(
        "{}, {}: samples a second, medians of {} repeats; {:.4} GFLOP explain a sample{peak}\n\n{}",
        first.model,
        first.composite,
        range(records.iter().map(|record| record.repeats)),
        first.gflop / first.batch as f64,
        table(&rows),
    )
}

/// The least and the greatest of some numbers, or the one that all are.
fn range(numbers: impl Iterator<Item = usize> + Clone) -> String {
    let (least, greatest) = (numbers.clone().min().unwrap_or(0), numbers.max().unwrap_or(0));
    if least == greatest { least.to_string() } else { format!("{least} to {greatest}") }
}
