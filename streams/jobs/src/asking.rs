//! One call of a provider, whatever it is for: within its time, counted, and judged by whether the provider answers at all.

use std::time::Duration;

use hansard_core::id::Millis;
use hansard_core::redelivery::Class;
use hansard_runtime::pace::Pace;
use hansard_runtime::stage::Failed;

use crate::providers::ProviderMetrics;

/// The longest that it is waited whether a provider answers at all.
const PROBE_WITHIN: Duration = Duration::from_secs(20);

/// How providers are called.
pub(crate) struct Asking {
    /// How long one call may take, and then whether the provider answers at all.
    answer_within: Duration,
    probe_within: Duration,
    pub(crate) metrics: ProviderMetrics,
}

impl Asking {
    /// The job gives a call up after `call_max`. Of this what is sent is fetched first, and the provider probed at last: one
    /// that takes calls and never answers would else not be known from a record that it cannot do.
    pub(crate) fn new(call_max: Millis, metrics: ProviderMetrics) -> Self {
        let call_max = Duration::from_millis(call_max.0.unsigned_abs());
        let probe_within = PROBE_WITHIN.min(call_max / 8);
        Self { answer_within: call_max - 2 * probe_within, probe_within, metrics }
    }

    /// One call, within its time. What looks like the failure of one record is the provider's where it fails a probe too: a
    /// provider that stops breaks off the calls that are under way, and these need no other attempt but a pause.
    pub(crate) async fn ask<T>(
        &self,
        (name, call): (&str, &'static str),
        pace: &Pace,
        asking: impl Future<Output = Result<T, Failed>>,
        probe: impl Future<Output = Result<(), Failed>>,
    ) -> Result<T, Failed> {
        let timer = self.metrics.seconds.with_label_values(&[name, call]).start_timer();
        let answer = tokio::time::timeout(self.answer_within, asking).await;
        timer.observe_duration();
        let failed = match answer {
            Ok(Ok(answer)) => {
                self.metrics.calls.with_label_values(&[name, call, "ok"]).inc();
                return Ok(answer);
            }
            Ok(Err(failed)) => failed,
            Err(_) => {
                let cause = format!("{name}: no answer within {} s", self.answer_within.as_secs_f32());
                Failed::new(Class::Transient, "timeout", cause)
            }
        };
        self.metrics.calls.with_label_values(&[name, call, failed.code]).inc();
        if let Some(wait) = failed.retry_after {
            pace.hold(Millis(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)));
        }
        let class = match failed.class {
            Class::Transient if !self.answers(probe).await => Class::Unavailable,
            class => class,
        };
        Err(Failed { class, provider: Some(name.to_owned()), ..failed })
    }

    async fn answers(&self, probe: impl Future<Output = Result<(), Failed>>) -> bool {
        let probed = tokio::time::timeout(self.probe_within, probe).await;
        probed.is_ok_and(|answer| answer.is_ok())
    }
}
