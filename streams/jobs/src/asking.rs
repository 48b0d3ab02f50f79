//! One call of a provider, whatever it is for: within its time, counted, and judged by whether the provider answers at all.

use std::sync::Arc;

use hansard_core::id::Millis;
use hansard_core::redelivery::Class;
use hansard_runtime::pace::Pace;
use hansard_runtime::ports::clock::Clock;
use hansard_runtime::stage::Failed;

use crate::providers::ProviderMetrics;

/// The longest that it is waited whether a provider answers at all.
const PROBE_WITHIN: Millis = Millis::seconds(20);

/// How providers are called.
pub(crate) struct Asking {
    /// How long one call may take, and then whether the provider answers at all.
    answer_within: Millis,
    probe_within: Millis,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: ProviderMetrics,
}

impl Asking {
    /// The job gives a call up after `call_max`. Of this what is sent is fetched first, and the provider probed at last: one
    /// that takes calls and never answers would else not be known from a record that it cannot do.
    pub(crate) fn new(call_max: Millis, clock: Arc<dyn Clock>, metrics: ProviderMetrics) -> Self {
        let probe_within = PROBE_WITHIN.min(Millis(call_max.0 / 8));
        let answer_within = Millis(call_max.0 - 2 * probe_within.0);
        Self { answer_within, probe_within, clock, metrics }
    }

    /// One call, within its time. What looks like the failure of one record is the provider's where it fails a probe too: a
    /// provider that stops breaks off the calls that are under way, and these need no other attempt but a pause. One that asks
    /// for time has answered, and gets it.
    pub(crate) async fn ask<T>(
        &self,
        (name, call): (&str, &'static str),
        pace: &Pace,
        asking: impl Future<Output = Result<T, Failed>>,
        probe: impl Future<Output = Result<(), Failed>>,
    ) -> Result<T, Failed> {
        let began = self.clock.now();
        let answer = self.within(self.answer_within, asking).await;
        self.metrics.took(name, call, self.clock.now() - began);
        let failed = match answer {
            Some(Ok(answer)) => {
                self.metrics.calls.with_label_values(&[name, call, "ok"]).inc();
                return Ok(answer);
            }
            Some(Err(failed)) => failed,
            None => {
                let cause = format!("{name}: no answer within {} ms", self.answer_within.0);
                Failed::new(Class::Transient, "timeout", cause)
            }
        };
        self.metrics.calls.with_label_values(&[name, call, failed.code]).inc();
        if let Some(wait) = failed.retry_after {
            pace.hold(Millis(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)));
        }
        let class = match failed.class {
            Class::Transient if failed.retry_after.is_none() && !self.answers(probe).await => {
                Class::Unavailable
            }
            class => class,
        };
        Err(Failed { class, provider: Some(name.to_owned()), ..failed })
    }

    async fn answers(&self, probe: impl Future<Output = Result<(), Failed>>) -> bool {
        let probed = self.within(self.probe_within, probe).await;
        probed.is_some_and(|answer| answer.is_ok())
    }

    /// What comes of it in time.
    async fn within<T>(&self, limit: Millis, asking: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            answer = asking => Some(answer),
            () = self.clock.sleep_until(self.clock.now() + limit) => None,
        }
    }
}
