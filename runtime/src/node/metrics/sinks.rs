//! Where samples go: into a text for Prometheus, or to a recorder of the `metrics` facade.
//!
//! Invariant: the text's recorder lives for one text, so that what is gone is in no later one.

use std::collections::HashMap;

use metrics::{Counter, Gauge, Key, KeyName, Label, Level, Metadata, Recorder, SharedString};
use metrics_exporter_prometheus::PrometheusBuilder;

use super::gather::{Sample, Value};
use super::names::{ALL, Metric};

static METADATA: Metadata<'static> = Metadata::new("skyhold", Level::INFO, Some("skyhold"));

/// The text that Prometheus reads.
pub(super) fn render(samples: &[Sample]) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    describe(&recorder);
    for sample in samples {
        match sample.value {
            Value::Count(count) => sample.counter(&recorder).absolute(count),
            Value::Level(level) => sample.gauge(&recorder).set(level),
        }
    }
    recorder.handle().render()
}

/// What a recorder was told last.
#[derive(Debug, Default)]
pub(super) struct Told {
    values: HashMap<Key, Value>,
}

impl Told {
    /// Tells a recorder what has changed since it was told last.
    pub(super) fn tell(&mut self, recorder: &dyn Recorder, samples: Vec<Sample>) {
        describe(recorder);
        let mut values = HashMap::with_capacity(samples.len());
        for sample in samples {
            let key = sample.key();
            match (sample.value, self.values.remove(&key)) {
                (Value::Count(count), Some(Value::Count(before))) => {
                    // Who has given up a place and got another one begins anew.
                    sample.counter(recorder).increment(count.checked_sub(before).unwrap_or(count));
                }
                (Value::Count(count), _) => sample.counter(recorder).increment(count),
                (Value::Level(level), _) => sample.gauge(recorder).set(level),
            }
            values.insert(key, sample.value);
        }
        let gone = std::mem::replace(&mut self.values, values);
        for (key, _) in gone.into_iter().filter(|(_, value)| matches!(value, Value::Level(_))) {
            recorder.register_gauge(&key, &METADATA).set(0.0);
        }
    }
}

impl Sample {
    fn key(&self) -> Key {
        let labels: Vec<_> =
            self.labels.iter().map(|(name, value)| Label::new(*name, value.clone())).collect();
        Key::from_parts(self.metric.name, labels)
    }

    fn counter(&self, recorder: &dyn Recorder) -> Counter {
        recorder.register_counter(&self.key(), &METADATA)
    }

    fn gauge(&self, recorder: &dyn Recorder) -> Gauge {
        recorder.register_gauge(&self.key(), &METADATA)
    }
}

fn describe(recorder: &dyn Recorder) {
    for Metric { name, is_counter, unit, help } in ALL {
        let (name, help) = (KeyName::from_const_str(name), SharedString::const_str(help));
        if *is_counter {
            recorder.describe_counter(name, Some(*unit), help);
        } else {
            recorder.describe_gauge(name, Some(*unit), help);
        }
    }
}
