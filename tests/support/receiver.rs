//! Somebody who is told of events: a server on a loopback port that keeps what came, and answers as it is told to.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use serde_json::Value;

/// An answer that lets itself be waited for.
const SLOWLY: Duration = Duration::from_secs(2);
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// A call that came.
#[derive(Debug, Clone)]
pub struct Call {
    /// Method and path.
    pub line: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Call {
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(own, _)| own == name);
        found.map_or_else(|| panic!("no {name}: {self:?}"), |(_, value)| value)
    }

    #[track_caller]
    pub fn id(&self) -> String {
        self.header("webhook-id").to_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap().to_owned()
    }

    /// The tenant that it is about.
    pub fn tenant(&self) -> String {
        self.json()["data"]["tenant_id"].as_str().unwrap_or_default().to_owned()
    }
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    answers: VecDeque<String>,
    always: Option<String>,
}

/// The server. It ends with the process.
pub struct Receiver {
    pub port: u16,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Receiver {
    pub fn start() -> Self {
        Self::at(0)
    }

    /// On a port.
    pub fn at(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::<(Mutex<State>, Condvar)>::default();
        let own = Arc::clone(&shared);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let own = Arc::clone(&own);
                std::thread::spawn(move || serve(stream, &own));
            }
        });
        Self { port, shared }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    /// The next answers: a status, and headers each ended by CRLF. An empty one is no answer: the connection hangs; `slowly` is a
    /// 204 after a while.
    pub fn answers(&self, answers: &[&str]) {
        self.shared.0.lock().unwrap().answers.extend(answers.iter().map(|answer| (*answer).to_owned()));
    }

    /// What is answered when nothing else is said; 204 until then.
    pub fn always(&self, answer: &str) {
        self.shared.0.lock().unwrap().always = Some(answer.to_owned());
    }

    /// What came since this was last asked.
    pub fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.shared.0.lock().unwrap().calls)
    }

    /// Waits until so many calls have come that were not taken yet, and takes them.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Call> {
        let (state, came) = &*self.shared;
        let state = state.lock().unwrap();
        let (mut state, late) = came.wait_timeout_while(state, PATIENCE, |state| state.calls.len() < count).unwrap();
        assert!(!late.timed_out(), "{} of {count} came: {:?}", state.calls.len(), state.calls);
        std::mem::take(&mut state.calls)
    }
}

fn serve(stream: TcpStream, shared: &(Mutex<State>, Condvar)) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let Some(call) = read(&mut reader) else { return };
    let answer = {
        let mut state = shared.0.lock().unwrap();
        state.calls.push(call);
        shared.1.notify_all();
        state.answers.pop_front().or_else(|| state.always.clone()).unwrap_or_else(|| "204".to_owned())
    };
    let mut stream = stream;
    if answer.is_empty() {
        // Until the other side lets go.
        drop(stream.read_to_end(&mut Vec::new()));
        return;
    }
    let answer = if answer == "slowly" {
        // Nobody sends anything here: it is a pause that needs no sleep.
        stream.set_read_timeout(Some(SLOWLY)).unwrap();
        drop(stream.read(&mut [0; 1]));
        "204".to_owned()
    } else {
        answer
    };
    let (status, headers) = answer.split_once(' ').unwrap_or((&answer, ""));
    let head = format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\nconnection: close\r\n{headers}\r\n");
    drop(stream.write_all(head.as_bytes()));
}

/// Reads a request.
pub fn read(reader: &mut impl BufRead) -> Option<Call> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let line = line.trim().trim_end_matches(" HTTP/1.1").to_owned();
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Call { line, headers, body: String::from_utf8(body).unwrap() })
}
