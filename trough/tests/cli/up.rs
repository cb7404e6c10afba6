//! `trough up`, `feeder` and `eater`: started, worked with, stopped.

use rustix::process::Signal;

use crate::harness::{DEADLINE, Place, Running, Up, eventually, lines_of};

#[test]
fn it_says_what_to_do_next_and_that_works() {
    let place = Place::new();
    let mut up = Up::start(&place);
    let shown = up.banner.split_once("in another terminal:").unwrap().1;
    let script: String =
        shown.lines().filter(|line| !line.contains(" tail ")).map(|line| format!("{line}\n")).collect();
    let output = std::process::Command::new("sh")
        .args(["-e", "-c", &script])
        .current_dir(place.path())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{script}\n{output:#?}");
    assert!(stdout.contains("\"text\":\"3\""), "{stdout}");

    let health = place.run(&format!("health --url {}", up.devices.replace("ws:", "http:"))).ok();
    assert!(health.contains("\"status\":\"ready\""), "{health}");
    up.process.signal(Signal::TERM);
    assert_eq!(up.process.wait().code(), Some(0));
}

#[test]
fn a_second_signal_cuts_the_drain_short() {
    let place = Place::new();
    let mut up = Up::listen(&place, "127.0.0.1:0", &["--linger", "600", "--grace", "900"]);
    up.process.signal(Signal::INT);
    let url = format!("health --url {}", up.admin);
    eventually("it says that it drains", || place.run(&url).stdout.contains("draining"));
    up.process.signal(Signal::INT);
    assert_eq!(up.process.wait().code(), Some(1), "what was cut short is no success");
}

#[test]
fn a_second_one_names_every_address_and_the_journal_in_use() {
    let place = Place::new();
    let up = Up::start(&place);
    let (devices, api) = (up.devices.replace("ws://", ""), up.api.replace("http://", ""));
    let taken = format!("up --listen {devices} --api {api} --admin 127.0.0.1:0");
    let stderr = place.run(&taken).failed(1);
    assert!(stderr.contains("--listen (TROUGH_LISTEN)") && stderr.contains("--api (TROUGH_API)"), "{stderr}");
    let stderr =
        place.run("up --listen 127.0.0.1:0 --api 127.0.0.1:0 --admin 127.0.0.1:0 --log error").failed(1);
    assert!(stderr.contains("in use by process"), "{stderr}");
}

#[test]
fn what_the_command_line_changes_is_noticed_by_the_running_server() {
    let place = Place::new();
    let up = Up::start(&place);
    let token = place.run("devices add bus-1").ok();
    let reader = place.run("readers add me").ok();
    let mut command = place.command(["send", "--url", &up.devices, "--token", &token]);
    let mut sender = Running(command.stdin(std::process::Stdio::piped()).spawn().unwrap());
    let mut stdin = sender.0.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"first\n").unwrap();

    let tail = ["tail", "bus-1", "--from", "start", "--api", &up.api, "--token", &reader];
    let mut tail = Running(place.command(tail).spawn().unwrap());
    let lines = lines_of(tail.0.stdout.take().unwrap());
    assert!(lines.recv_timeout(DEADLINE).unwrap().contains("\"text\":\"first\""));
    // A live line comes, too.
    std::io::Write::write_all(&mut stdin, b"second\n").unwrap();
    assert!(lines.recv_timeout(DEADLINE).unwrap().contains("\"text\":\"second\""));

    place.run("devices revoke bus-1").ok();
    std::io::Write::write_all(&mut stdin, b"third\n").unwrap();
    assert_eq!(sender.wait().code(), Some(1), "the session of a revoked device ends");
    place.run("readers revoke me").ok();
    assert_eq!(tail.wait().code(), Some(1), "a revoked reader is refused");
}

#[test]
fn feeder_and_eater_are_separate_processes_on_one_data_dir() {
    let place = Place::new();
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (links, api, listen) = (free(), free(), free());
    let any = "127.0.0.1:0";
    let eater = ["eater", "--links", &links, "--api", &api, "--admin", any, "--linger", "0"];
    let feeder = ["feeder", "--eater", &links, "--listen", &listen, "--admin", any, "--linger", "0"];
    let silent = || std::process::Stdio::inherit();
    let mut eater = Running(place.command(eater).stdout(silent()).stderr(silent()).spawn().unwrap());
    let mut feeder = Running(place.command(feeder).stdout(silent()).stderr(silent()).spawn().unwrap());
    for address in [&api, &listen] {
        eventually("it is ready", || place.run(&format!("health --url http://{address}")).code == Some(0));
    }
    let token = place.run("devices add bus-1").ok();
    let lines: String = (1..=1000).map(|n| format!("{n}\n")).collect();
    place.pipe(&format!("send --url ws://{listen} --token {token}"), lines).ok();
    for process in [&mut feeder, &mut eater] {
        process.signal(Signal::TERM);
        assert_eq!(process.wait().code(), Some(0));
    }
}
