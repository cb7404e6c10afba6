//! The database: SecantusDB, which speaks MongoDB's protocol, as a replica set of one.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::options::{ClientOptions, ServerAddress};
use tempfile::TempDir;

use super::{free_ports, log_in, own_ip, program};
use crate::poll::{LATER, until};
use crate::process::Process;

/// A running database server.
#[derive(Debug)]
pub struct Mongo {
    /// Where it listens; the same over restarts.
    pub at: SocketAddr,
    process: Process,
    dir: TempDir,
}

impl Mongo {
    /// Starts one that is empty.
    pub async fn start() -> Self {
        let [at] = free_ports(own_ip());
        let dir = tempfile::tempdir().unwrap();
        let process = spawn(at, &dir);
        let mut server = Self { at, process, dir };
        server.ready().await;
        server
    }

    /// The URL of one of its databases, which exists as soon as something is written to it.
    pub fn url(&self, database: &str) -> String {
        format!("mongodb://{}/{database}", self.at)
    }

    /// The same by way of a proxy at `at`. Without the option a client would ask for the server's own address and go
    /// there.
    pub fn url_by(&self, at: SocketAddr, database: &str) -> String {
        format!("mongodb://{at}/{database}?directConnection=true")
    }

    /// Its process, to be stopped and resumed.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// SIGKILL: what it had acknowledged stays.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after a kill, with what it has stored.
    pub async fn restart(&mut self) {
        self.spawn_again();
        self.ready().await;
    }

    /// The same, and does not wait until it answers.
    pub fn spawn_again(&mut self) {
        self.process.kill();
        self.process = spawn(self.at, &self.dir);
    }

    /// A client that goes to it and nowhere else.
    ///
    /// # Panics
    /// Never, as its options are good.
    pub fn client(&self) -> Client {
        let mut options = ClientOptions::default();
        options.hosts =
            vec![ServerAddress::Tcp { host: self.at.ip().to_string(), port: Some(self.at.port()) }];
        options.direct_connection = Some(true);
        options.server_selection_timeout = Some(Duration::from_secs(1));
        Client::with_options(options).unwrap()
    }

    /// Changes documents of a collection by a transaction in a session of somebody else, and leaves it open: as a process
    /// does that is killed in it.
    pub fn leave_open(&self, database: &str, session: &Document, changes: &[(&str, Document)]) {
        for (n, (collection, filter)) in changes.iter().enumerate() {
            let change = doc! { "q": filter.clone(), "u": { "$set": { "left_open": true } } };
            let mut command = doc! {
                "update": collection, "updates": [change], "$db": database,
                "lsid": session.clone(), "txnNumber": 1_000_000_i64, "autocommit": false,
            };
            if n == 0 {
                command.insert("startTransaction", true);
            }
            let answer = message(self.at, &command);
            assert!(answer.get_i32("n").is_ok_and(|n| n == 1), "{answer}");
        }
    }

    /// Waits until it answers.
    pub async fn ready(&mut self) {
        let client = self.client();
        until("the database answers", LATER, async || {
            assert!(!self.process.has_ended(), "the database ended:\n{}", self.process.log());
            client.database("admin").run_command(doc! { "ping": 1 }).await.ok()
        })
        .await;
    }
}

fn spawn(at: SocketAddr, dir: &TempDir) -> Process {
    let mut command = Command::new(program("secantusd-py"));
    command.args(["--host", &at.ip().to_string(), "--port", &at.port().to_string()]);
    // Its own default is 1 GiB, and several may run at once. It passes over `j: true` where a transaction is committed,
    // which MongoDB does not; this makes every commit durable.
    command
        .args(["--cache-size", "128M", "--sync-on-commit"])
        .arg("--storage-path")
        .arg(dir.path().join("data"));
    Process::spawn("secantusd-py", &mut command, &log_in(dir.path()))
}

/// A command as the driver would not send it (MongoDB's wire protocol, OP_MSG), and the answer.
fn message(at: SocketAddr, command: &Document) -> Document {
    let body = command.to_vec().unwrap();
    let length = i32::try_from(16 + 5 + body.len()).unwrap();
    // Length, request, response to, OP_MSG, flags; then a section of kind 0.
    let mut bytes: Vec<u8> = [length, 1, 0, 2013, 0].into_iter().flat_map(i32::to_le_bytes).collect();
    bytes.push(0);
    bytes.extend(body);
    let mut connection = TcpStream::connect(at).unwrap();
    connection.set_read_timeout(Some(LATER)).unwrap();
    connection.write_all(&bytes).unwrap();
    let mut length = [0; 4];
    connection.read_exact(&mut length).unwrap();
    let mut rest = vec![0; usize::try_from(i32::from_le_bytes(length)).unwrap() - 4];
    connection.read_exact(&mut rest).unwrap();
    Document::from_reader(&rest[17..]).unwrap()
}
