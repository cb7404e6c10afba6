//! What a newcomer is told: help, and everything that is wrong with a configuration.

use crate::harness::{Place, finish};

/// Every command as it is typed, with its help.
fn commands(place: &Place) -> Vec<(String, String)> {
    let (mut found, mut open) = (Vec::new(), vec![String::new()]);
    while let Some(words) = open.pop() {
        let help = place.run(&format!("{words} --help")).ok();
        let listed = help.split_once("Commands:\n").map_or("", |(_, listed)| listed);
        let lines = listed.lines().take_while(|line| !line.is_empty());
        // What goes on in the next line stands further to the right.
        let names =
            lines.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
        open.extend(
            names.filter(|name| *name != "help").map(|name| format!("{words} {name}").trim().to_owned()),
        );
        found.push((words, help));
    }
    found
}

#[test]
fn every_option_of_every_command_shows_its_variable_and_default() {
    let place = Place::new();
    let mut options = 0;
    for (command, help) in commands(&place) {
        // An option begins with its name and ends before the next one or an empty line.
        let text = help.replace("\n\n", "\n      --end\n");
        for option in text.split("\n      --").skip(1) {
            let name = option.split([' ', '\n']).next().unwrap();
            if matches!(name, "end" | "help") {
                continue;
            }
            options += 1;
            let option = option.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(option.contains("[env: TROUGH_"), "{command}: --{option}");
            assert!(option.contains("[default: ") || name == "token", "{command}: --{option}");
        }
    }
    assert!(options > 60, "{options}");
}

#[test]
fn every_fault_is_told_at_once_with_its_remedy() {
    let place = Place::new();
    let words =
        "up --listen 8080 --api x: --admin ::1:1 --grace 0 --frame-bytes-max 2M --log-format xml --log a=b";
    let stderr = place.run(words).failed(2);
    let lines: Vec<_> = stderr.lines().collect();
    assert_eq!(lines.len(), 7, "{stderr}");
    for option in ["listen", "api", "admin", "grace", "frame-bytes-max", "log-format", "log"] {
        let begin = format!("error: --{option} (TROUGH_");
        let line = lines.iter().find(|line| line.starts_with(&begin));
        assert!(line.is_some_and(|line| line.contains("; use ")), "{option}: {stderr}");
    }
    assert!(!place.join("trough-data").exists(), "nothing was begun");
}

#[test]
fn the_environment_is_read_and_the_command_line_wins() {
    let place = Place::new();
    let with_env = |args: &[&str]| {
        let mut command = place.command(args);
        command.env("TROUGH_DATA_DIR", place.join("from-env"));
        finish(command, Vec::new())
    };
    with_env(&["devices", "add", "a"]).ok();
    with_env(&["devices", "add", "b", "--data-dir", "from-line"]).ok();
    assert!(with_env(&["devices", "list"]).ok().contains("\na "));
    assert!(place.run("devices list --data-dir from-line").ok().contains("\nb "));
    let mut command = place.command(["devices", "list"]);
    command.env("TROUGH_DATA_DIR", place.join("from-env")).env("TROUGH_JSON", "yes");
    assert!(finish(command, Vec::new()).ok().starts_with("[{\"id\":\"a\""));
}

#[test]
fn a_token_of_the_wrong_kind_is_noticed_and_not_repeated() {
    let stderr = Place::new().run("send --token trdr_secret").failed(2);
    assert!(stderr.contains("it is a reader's token") && !stderr.contains("secret"), "{stderr}");
    let stderr = Place::new().run("tail bus-1 --token tdev_secret --from yesterday").failed(2);
    assert!(stderr.contains("it is a device's token") && stderr.contains("EPOCH:SEQ"), "{stderr}");
}

#[test]
fn nobody_listens_and_the_error_says_where() {
    let stderr = Place::new().run("health --url http://127.0.0.1:1").failed(1);
    assert!(stderr.starts_with("error: no answer from http://127.0.0.1:1/readyz"), "{stderr}");
    assert!(stderr.contains("refused"), "{stderr}");
}
