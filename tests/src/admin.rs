//! The administrative commands, on the data directory of a deployment.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use crate::cluster::Cluster;
use crate::process::command;

impl Cluster {
    /// Runs an administrative command on the data directory, which must succeed, and gives what it printed.
    pub async fn admin(&self, args: &[&str], input: &str) -> String {
        let data_dir = self.data_dir().display().to_string();
        let mut command = command();
        command.args(args).args(["--data-dir", &data_dir]).args(self.database_args());
        let output = run(command, input).await;
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Adds a device; gives its token.
    pub async fn add_device(&self, id: &str) -> String {
        self.admin(&["devices", "add", id], "").await
    }

    /// Adds many devices; gives their tokens by id.
    pub async fn import_devices(&self, ids: impl IntoIterator<Item = &str>) -> BTreeMap<String, String> {
        let input: String = ids.into_iter().map(|id| format!("{id},\n")).collect();
        let output = self.admin(&["devices", "import", "-"], &input).await;
        let row = |line: &str| line.split_once(',').map(|(id, token)| (id.to_owned(), token.to_owned()));
        output.lines().skip(1).filter_map(row).collect()
    }

    /// Adds a reader of these groups (of all devices, if none); gives its token.
    pub async fn add_reader(&self, name: &str, groups: &[&str]) -> String {
        let groups = groups.iter().flat_map(|group| ["--group", group]);
        let args: Vec<&str> = ["readers", "add", name].into_iter().chain(groups).collect();
        self.admin(&args, "").await
    }
}

/// Runs a command to its end.
pub async fn run(mut command: Command, input: &str) -> Output {
    let input = input.to_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let work = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that does not want its input may close it.
        let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    });
    work.await.unwrap()
}

/// Every command of the binary as it is typed, the groups of commands and nothing at all among them, with its help.
pub async fn help_of_all() -> BTreeMap<String, String> {
    let (mut found, mut open) = (BTreeMap::new(), vec![String::new()]);
    while let Some(words) = open.pop() {
        let mut help = command();
        help.args(words.split_whitespace()).arg("--help");
        let output = run(help, "").await;
        assert!(output.status.success(), "trough {words} --help");
        let text = String::from_utf8(output.stdout).unwrap();
        let inner = subcommands(&text);
        open.extend(inner.iter().map(|name| format!("{words} {name}").trim().to_owned()));
        found.insert(words, text);
    }
    found
}

/// Those that a help lists, but for `help`.
fn subcommands(help: &str) -> Vec<&str> {
    let Some((_, listed)) = help.split_once("Commands:\n") else { return Vec::new() };
    let lines = listed.lines().take_while(|line| !line.is_empty());
    // What goes on in the next line stands further to the right.
    let names =
        lines.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").collect()
}
