//! Whether the time of an answer tells who has an account: wrong passwords of people against those of nobody.
//!
//! Both kinds are tried in turn, in pairs whose order alternates, each try on a new connection from a loopback address of
//! its own (all of 127.0.0.0/8 is), with the same number of tries for each email: so the server throttles neither kind, under its
//! ordinary settings, and whatever else the machine does falls on both. A try is timed from the request's first byte to the
//! end of the answer. What is held to a bound is the mean without the tenth at either end, because one stall of the machine's
//! among 300 tries moves a plain mean by some percent; the plain means are printed beside it, and so is the CPU time that the process
//! took, which other programs do not lengthen. `TOLLGATE_TRIES=300` is the proof; without it a few tries have a wide
//! bound, which is enough to see a hash that is not computed.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

use serde_json::json;

use super::{
    customer::admin,
    server::{PATIENCE, Server},
    support::actors::registration,
};

/// Emails of each kind. An account takes 100 failures from strangers before it is slowed down.
const EMAILS: usize = 6;
/// Pairs that are not counted: what is made once is made by them.
const WARM_UP: usize = 6;

#[expect(clippy::disallowed_methods, reason = "tests read their own switch")]
fn tries() -> usize {
    std::env::var("TOLLGATE_TRIES").map_or(20, |text| text.parse().unwrap())
}

/// What tries of one kind took, in microseconds.
#[derive(Default)]
struct Kind {
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

fn mean(times: &[f64]) -> f64 {
    let count = u32::try_from(times.len()).unwrap();
    times.iter().sum::<f64>() / f64::from(count)
}

/// The mean of the middle four fifths.
fn trimmed_mean(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let cut = sorted.len() / 10;
    mean(&sorted[cut..sorted.len() - cut])
}

/// CPU time of a process so far, in microseconds (`proc_pid_schedstat(5)`, summed over its threads).
fn cpu_us(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of_task = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        stat.split(' ').next().and_then(|text| text.parse::<f64>().ok()).unwrap_or_default()
    };
    tasks.map(|task| of_task(task.unwrap())).sum::<f64>() / 1_000.0
}

/// One try from an address; the answer without its date, and what it took.
fn attempt(server: &Server, from: Ipv4Addr, email: &str) -> (String, f64, f64) {
    let body = json!({"email": email, "password": "another-Quarry-58"}).to_string();
    let length = body.len();
    let request = format!(
        "POST /v1/login HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    let connecting = async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((from, 0))).unwrap();
        socket.connect(server.address.parse().unwrap()).await.unwrap().into_std().unwrap()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let mut stream = runtime.block_on(connecting);
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let cpu = cpu_us(server.pid());
    #[expect(clippy::disallowed_methods, reason = "a stopwatch")]
    let begun = Instant::now();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let wall = begun.elapsed().as_secs_f64() * 1e6;
    let cpu = cpu_us(server.pid()) - cpu;
    (answer.lines().filter(|line| !line.starts_with("date:")).collect::<Vec<_>>().join("\n"), wall, cpu)
}

#[test]
fn the_time_of_an_answer_does_not_tell_who_has_an_account() {
    let tries = tries();
    let bound = if tries < 300 { 0.3 } else { 0.05 };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let admin = admin(&server);
    let known: Vec<String> = (0..EMAILS).map(|n| format!("person{n}@timing.example")).collect();
    let unknown: Vec<String> = (0..EMAILS).map(|n| format!("nobody{n}@timing.example")).collect();
    for (n, email) in known.iter().enumerate() {
        let mut body = registration(&format!("Timing {n}"), "free");
        body["email"] = json!(email);
        let made = server.call("POST", "/admin/v1/registrations", &admin, &body);
        assert_eq!(made.status, 201, "{}", made.body);
    }
    let mut kinds = [Kind::default(), Kind::default()];
    for pair in 0..WARM_UP + tries {
        let address = Ipv4Addr::from(0x7f01_0000 + u32::try_from(pair).unwrap());
        let emails = [&known[pair % EMAILS], &unknown[pair % EMAILS]];
        let order = if pair % 2 == 0 { [0, 1] } else { [1, 0] };
        let answers = order.map(|kind| (kind, attempt(&server, address, emails[kind])));
        assert_eq!(answers[0].1.0, answers[1].1.0, "the answers themselves differ");
        for (kind, (answer, wall, cpu)) in answers {
            assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
            if pair >= WARM_UP {
                kinds[kind].wall.push(wall);
                kinds[kind].cpu.push(cpu);
            }
        }
    }
    let say = |what: &str, of: &dyn Fn(&Kind) -> f64| {
        let [known, unknown] = kinds.each_ref().map(of);
        let ratio = unknown / known;
        let (means, tries) =
            (format!("wrong password {known:.0} µs, unknown user {unknown:.0} µs"), format!("{tries} tries each"));
        drop(writeln!(std::io::stderr(), "{what}: {means}, ratio {ratio:.4}, {tries}"));
        ratio
    };
    say("mean", &|kind| mean(&kind.wall));
    let ratio = say("mean of the middle four fifths", &|kind| trimmed_mean(&kind.wall));
    let of_work = say("mean CPU time of the process", &|kind| mean(&kind.cpu));
    assert!((ratio - 1.0).abs() < bound, "unknown users are told by the time of the answer: {ratio}");
    assert!((of_work - 1.0).abs() < bound, "unknown users are told by the work that is done: {of_work}");
}
