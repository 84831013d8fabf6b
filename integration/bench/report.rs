//! Figures to a table for people, and to JSON for programs.

use serde_json::{Value, json};

/// All that was measured, in the order of its measuring.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
}

struct Row {
    what: String,
    unit: &'static str,
    subject: String,
    /// One for each round.
    samples: Vec<f64>,
    /// A multiple of the baseline's: the median of the rounds, since what disturbs one round disturbs both.
    ratio: Option<f64>,
    goal: Option<Goal>,
}

/// What a figure should be.
#[derive(Clone, Copy)]
pub enum Goal {
    /// The figure itself, at most.
    Most(f64),
    /// The figure itself, at least.
    Least(f64),
    /// Its ratio to the baseline's, at most.
    Ratio(f64),
}

impl Report {
    /// Adds a figure, with the samples of each round.
    pub fn add(&mut self, what: &str, unit: &'static str, subject: &str, samples: Vec<f64>, goal: Option<Goal>) {
        let baseline = self.rows.iter().find(|row| row.what == what && BASELINES.contains(&&*row.subject));
        let ratio = baseline.map(|baseline| {
            let ratios: Vec<f64> =
                samples.iter().zip(&baseline.samples).map(|(sample, other)| sample / other).collect();
            median(&ratios)
        });
        let row = Row { what: what.to_owned(), unit, subject: subject.to_owned(), samples, ratio, goal };
        println!("{}", row.line());
        self.rows.push(row);
    }

    /// Prints what the columns are.
    pub fn head() {
        println!(
            "{:<WHAT$} {:<SUBJECT$} {:>10} {:<8} {:>9} {:>6}  goal",
            "what", "subject", "median", "unit", "quartiles", "ratio"
        );
    }

    /// All of it as JSON.
    pub fn json(&self) -> Value {
        self.rows
            .iter()
            .map(|row| {
                json!({
                    "what": row.what, "subject": row.subject, "unit": row.unit, "median": median(&row.samples),
                    "samples": row.samples, "ratio": row.ratio, "is_met": row.is_met(),
                })
            })
            .collect()
    }
}

impl Row {
    fn line(&self) -> String {
        let spread = match &self.samples[..] {
            [_] => String::new(),
            samples => {
                let half = (percentile(samples, 75.0) - percentile(samples, 25.0)) / 2.0;
                format!("± {:.0} %", half / median(samples) * 100.0)
            }
        };
        let goal = match self.goal {
            None => String::new(),
            Some(Goal::Most(most)) => format!("≤ {most}"),
            Some(Goal::Least(least)) => format!("≥ {least}"),
            Some(Goal::Ratio(most)) => format!("≤ {most} ×"),
        };
        let missed = if self.is_met() == Some(false) { ", missed" } else { "" };
        let ratio = self.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        let number = |value: f64| if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") };
        let median = number(median(&self.samples));
        format!(
            "{:<WHAT$} {:<SUBJECT$} {median:>10} {:<8} {spread:>9} {ratio:>6}  {goal}{missed}",
            self.what, self.subject, self.unit
        )
    }

    fn is_met(&self) -> Option<bool> {
        match self.goal? {
            Goal::Most(most) => Some(median(&self.samples) <= most),
            Goal::Least(least) => Some(median(&self.samples) >= least),
            Goal::Ratio(most) => self.ratio.map(|ratio| ratio <= most),
        }
    }
}

/// What others of the same row are compared with.
const BASELINES: [&str; 3] = ["forwarder", ONE_SERVER, APP];

/// One server, beside several.
pub const ONE_SERVER: &str = "one server";

/// An old app, whose texts are a box each and nothing else.
pub const APP: &str = "an old app";

/// Columns as wide as the longest that stands in them.
const WHAT: usize = 74;
const SUBJECT: usize = 22;

/// The middle one of the samples.
pub fn median(samples: &[f64]) -> f64 {
    percentile(samples, 50.0)
}

/// The sample below which `percent` of them are.
pub fn percentile(samples: &[f64], percent: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * percent / 100.0).round() as usize]
}
