//! One upstream: its targets, which of them a request goes to, whether it goes to another when that fails, and what is
//! answered when none can take it. Bodies stream both ways; the answer's hop-by-hop headers stay behind. The request's were
//! taken away before the gateway said who calls (`stack`).
//!
//! With one target and no options a request costs what sending it costs: nothing is counted, copied, drawn or wrapped.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    http::{Request, Response, StatusCode, header, uri::PathAndQuery},
};
use tokio::time::Instant;
use tokio_util::sync::DropGuard;

use super::{
    Background, TargetState, Terms, UpstreamConfig, UpstreamState,
    flow::Watch,
    health::{Standing, is_failure},
    hop::Hop,
    probe,
    retry::{Budget, Spare},
    send::{Cause, SendError},
    target::{InFlight, Target},
    upgrade::Upgrade,
    upload::Upload,
};
use crate::{
    gateway::{
        directory::BoxFuture,
        headers::{strip_forged_cookies, strip_hop_by_hop},
    },
    kernel::rng::random_bytes,
    web::{Kind, Problem, Wording},
};

/// One upstream.
pub(super) struct Cluster {
    config: Arc<UpstreamConfig>,
    targets: Box<[Arc<Target>]>,
    background: Background,
    budget: Budget,
    /// What chance is drawn from: a counter from a random beginning, mixed.
    dice: AtomicU64,
    /// Ends the probes with the cluster.
    _probes: DropGuard,
}

/// A request failed at a target.
#[derive(Debug, thiserror::Error)]
#[error("upstream {name}, target {target}")]
struct AtTarget {
    name: String,
    target: String,
    #[source]
    cause: Cause,
}

/// A target that was chosen, and whether the request is its trial.
struct Choice<'a> {
    number: usize,
    target: &'a Arc<Target>,
    trial: bool,
}

impl Cluster {
    pub(super) fn new(config: Arc<UpstreamConfig>, background: &Background) -> Self {
        let targets: Box<[Arc<Target>]> =
            config.targets.iter().map(|address| Arc::new(Target::new(address, &config))).collect();
        let ended = background.stop.child_token();
        let run = |task: BoxFuture<'static, ()>| {
            let ended = ended.clone();
            background.tasks.spawn(async move { ended.run_until_cancelled(task).await });
        };
        for direct in targets.iter().filter_map(|target| target.connections.direct()) {
            run(Box::pin(direct.keep_tidy()));
        }
        if let Some(probe) = &config.probe {
            for target in &targets {
                run(Box::pin(probe::run(config.name.clone(), Arc::clone(target), probe.clone())));
            }
        }
        Self {
            targets,
            budget: Budget::new(config.retry_budget_percent),
            dice: AtomicU64::new(u64::from_le_bytes(random_bytes(&*background.rng))),
            background: background.clone(),
            config,
            _probes: ended.drop_guard(),
        }
    }

    pub(super) const fn config(&self) -> &Arc<UpstreamConfig> {
        &self.config
    }

    pub(super) const fn background(&self) -> &Background {
        &self.background
    }

    pub(super) fn state(&self) -> UpstreamState {
        let state = |target: &Arc<Target>| TargetState {
            address: target.address.clone(),
            standing: target.health.standing(Instant::now()),
            probed_down: target.health.is_probed_down(),
            failures: target.health.failures(),
            in_flight: self.counts().then(|| target.in_flight()),
        };
        UpstreamState { config: Arc::clone(&self.config), targets: self.targets.iter().map(state).collect() }
    }

    /// Whether requests in flight are counted.
    fn counts(&self) -> bool {
        self.targets.len() > 1 || self.config.limit.is_some()
    }

    /// The one target, if there is nothing to choose, to count, or to watch over.
    pub(super) fn only_target(&self) -> Option<&Arc<Target>> {
        let UpstreamConfig { fail_fast, idle, total, .. } = &*self.config;
        let is_plain = !fail_fast && idle.is_none() && total.is_none() && !self.counts();
        self.targets.first().filter(|_| is_plain)
    }

    pub(super) fn too_late() -> Problem {
        Problem::new(Kind::GATEWAY_TIMEOUT, "the upstream did not begin its answer in time")
    }

    /// The upstream's answer, or a problem in its place.
    pub(super) async fn call(&self, request: Request<Body>, terms: &Terms) -> Response<Body> {
        // The path is the client's, and the problem is about that; the target may see another.
        let path = request.uri().path_and_query().cloned();
        let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let wording = Wording::of(&request);
        match self.answer(request, &path, terms).await {
            Ok(response) => response,
            Err(problem) => problem.render_in(wording, path.path()),
        }
    }

    async fn answer(
        &self,
        mut request: Request<Body>,
        path: &PathAndQuery,
        terms: &Terms,
    ) -> Result<Response<Body>, Problem> {
        let hop = request.extensions_mut().remove::<Hop>().unwrap_or_default();
        let upgrade = Upgrade::begin(&hop, &mut request);
        let trailers = hop.answers_trailers(request.version());
        let request = hop.pass_on(request, self.config.http);
        let began = Instant::now();
        let (upload, request) = Upload::watch(request, began);
        let (mut response, in_flight) = self.send(request, path, terms, &upload).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(upgrade) = upgrade.filter(|upgrade| upgrade.is_agreed(&response)) else {
                let detail = "the upstream changed to a protocol that was not asked for";
                return Err(Problem::new(Kind::BAD_GATEWAY, detail));
            };
            return Ok(upgrade.tunnel(response, &self.background, self.config.idle, in_flight));
        }
        let named = hop.trailers.then(|| response.headers_mut().remove(header::TRAILER)).flatten();
        strip_hop_by_hop(response.headers_mut());
        strip_forged_cookies(response.headers_mut());
        response.headers_mut().extend(named.map(|named| (header::TRAILER, named)));
        let until = self.config.total.map(|total| began + total);
        let watch = Watch { idle: self.config.idle, until, trailers, in_flight };
        Ok(response.map(|body| watch.over(body)))
    }

    /// Sends to one target after the other, as long as that is safe, there is time, and not too many requests fail.
    async fn send(
        &self,
        mut request: Request<Body>,
        path: &PathAndQuery,
        terms: &Terms,
        upload: &Upload,
    ) -> Result<(Response<Body>, Option<InFlight>), Problem> {
        self.budget.earn();
        let (mut tried, mut attempt) = (0, 0);
        loop {
            let Choice { number, target, trial } = self.choose(tried)?;
            tried |= 1 << number;
            let in_flight = if self.counts() { Some(self.enter(target, terms.first_byte).await?) } else { None };
            match target.path(path, terms.prefix()).map_err(Problem::internal)? {
                Some(path) => *request.uri_mut() = path.into(),
                None if attempt > 0 => *request.uri_mut() = path.clone().into(),
                None => {}
            }
            let mut spare = None;
            if self.targets.len() > 1 && attempt < self.config.retries {
                let (kept, sent) = Spare::of(request);
                (spare, request) = (Some(kept), sent);
            }
            let error = match upload.within(terms.first_byte, target.connections.send(request)).await {
                Some(Ok(response)) => {
                    if is_failure(response.status()) {
                        target.health.failed(trial, Instant::now());
                    } else {
                        target.health.answered();
                    }
                    return Ok((response, in_flight));
                }
                Some(Err(error)) => error,
                None => {
                    if upload.is_whole() {
                        target.health.failed(trial, Instant::now());
                    }
                    return Err(Self::too_late());
                }
            };
            drop(in_flight);
            let (nothing_sent, cause) = match error {
                SendError::Connect(cause) => (true, cause),
                SendError::Broken(cause) => (false, cause),
            };
            if upload.is_broken() {
                // Nobody knows anything of the target by that. It is not the upstream's answer, so it is not billed.
                return Err(Problem::new(Kind::BAD_GATEWAY, "the request's body broke off").caused_by(cause));
            }
            target.health.failed(trial, Instant::now());
            let again = spare.and_then(|spare| spare.again(nothing_sent));
            // Where there is one target, its connections have tried what can be tried.
            let may = self.targets.len() > 1 && attempt < self.config.retries;
            match again.filter(|_| may && self.budget.spend()) {
                Some(again) => request = again,
                None => return Err(self.unreachable(target, cause)),
            }
            attempt += 1;
        }
    }

    pub(super) fn unreachable(&self, target: &Target, cause: Cause) -> Problem {
        let cause = AtTarget { name: self.config.name.clone(), target: target.address.to_string(), cause };
        Problem::new(Kind::BAD_GATEWAY, "the upstream could not be reached").caused_by(cause)
    }

    async fn enter(&self, target: &Arc<Target>, patience: Duration) -> Result<InFlight, Problem> {
        target.enter(patience).await.map_err(|_| unavailable("the upstream has as much to do as it may have"))
    }

    /// The target for the next attempt: of two that are in, drawn by lot, the one with less to do. Targets that were
    /// tried come last; those that are out come only when all are, unless the upstream is to fail fast.
    fn choose(&self, tried: u64) -> Result<Choice<'_>, Problem> {
        if let [target] = &*self.targets
            && !self.config.fail_fast
        {
            return Ok(Choice { number: 0, target, trial: false });
        }
        let now = Instant::now();
        let (mut fit, mut all) = (0_u64, 0_u64);
        for (number, target) in self.targets.iter().enumerate() {
            all |= 1 << number;
            match target.health.standing(now) {
                Standing::In => fit |= 1 << number,
                Standing::Trial if target.health.take_trial(now) => return Ok(Choice { number, target, trial: true }),
                Standing::Trial | Standing::Out => {}
            }
        }
        if fit == 0 && !self.config.fail_fast {
            fit = all;
        }
        let untried = if fit & !tried == 0 { fit } else { fit & !tried };
        self.least_loaded_of_two(untried)
            .map(|(number, target)| Choice { number, target, trial: false })
            .ok_or_else(|| unavailable("no target of the upstream can take the request now"))
    }

    fn least_loaded_of_two(&self, fit: u64) -> Option<(usize, &Arc<Target>)> {
        let drawn = mixed(self.dice.fetch_add(1, Ordering::Relaxed));
        let at = |number: usize| self.targets.get(number).map(|target| (number, target));
        let (first, rest) = draw(fit, drawn & u64::from(u32::MAX))?;
        let one = at(first)?;
        let Some(other) = draw(rest, drawn >> 32).and_then(|(second, _)| at(second)) else { return Some(one) };
        Some(if other.1.in_flight() < one.1.in_flight() { other } else { one })
    }
}

fn unavailable(detail: &str) -> Problem {
    Problem::new(Kind::UPSTREAM_UNAVAILABLE, detail).retry_after(1)
}

/// One of the bits of a set, and the set without it; `chance` is of 32 bits.
fn draw(set: u64, chance: u64) -> Option<(usize, u64)> {
    let skipped = (chance * u64::from(set.count_ones())) >> 32;
    let rest = (0..skipped).fold(set, |rest, _| rest & rest.wrapping_sub(1));
    let bit = usize::try_from(rest.trailing_zeros()).ok().filter(|_| rest != 0)?;
    Some((bit, set & !(1 << bit)))
}

/// A number that looks like chance (the finaliser of `SplitMix64`).
const fn mixed(number: u64) -> u64 {
    let number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lots_are_even_and_never_fall_outside_the_set() {
        let set = 0b1011_0001_u64;
        let mut drawn = [0_u32; 8];
        for number in 0..40_000 {
            let (bit, rest) = draw(set, mixed(number) >> 32).unwrap();
            assert_eq!(rest | (1 << bit), set);
            assert_ne!(rest, set);
            drawn[bit] += 1;
        }
        assert!([0, 4, 5, 7].iter().all(|bit| (9_500..10_500).contains(&drawn[*bit])), "{drawn:?}");
        assert_eq!(drawn.iter().sum::<u32>(), 40_000);
        assert!(draw(0, 7).is_none());
    }
}
