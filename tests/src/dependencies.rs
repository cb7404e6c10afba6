//! What the lock file brings in: licences that we may ship under, and no second TLS stack.
//!
//! It reads `cargo metadata --offline`, so it needs no network and no further tool. Advisories need a database
//! from the network and are not checked here.

#[cfg(test)]
mod tests {
    use std::process::Command;

    use serde_json::Value;

    /// Licences of dependencies that ask for no more than a notice, as long as they are used as they are.
    const LICENCES: &[&str] = &[
        "0BSD",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "CDLA-Permissive-2.0",
        "ISC",
        "MIT",
        "MIT-0",
        // Asks for the source of its own files where they are changed; we change none (crates that rust-s3 brings).
        "MPL-2.0",
        "Unicode-3.0",
        "Unlicense",
        "Zlib",
    ];
    /// One TLS stack: rustls with ring.
    const BANNED: &[&str] = &["aws-lc-rs", "aws-lc-sys", "boring", "native-tls", "openssl", "openssl-sys"];

    fn packages() -> Vec<Value> {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked", "--offline"])
            // What we ship runs on Linux; the crates of other systems are not even fetched.
            .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        metadata["packages"].as_array().unwrap().clone()
    }

    /// Whether one of the alternatives of an SPDX expression is allowed whole; parentheses are passed over.
    fn is_allowed(expression: &str) -> bool {
        let plain = expression.replace('/', " OR ").replace(['(', ')'], "");
        plain.split(" OR ").any(|terms| terms.split(" AND ").all(|term| LICENCES.contains(&term.trim())))
    }

    #[test]
    fn every_licence_is_one_we_may_ship_under() {
        let packages = packages();
        assert!(packages.len() > 50, "{} packages: was the metadata read?", packages.len());
        let refused: Vec<String> = packages
            .iter()
            .filter(|package| !package["license"].as_str().is_some_and(is_allowed))
            .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
            .collect();
        assert!(refused.is_empty(), "licences to look at:\n{}", refused.join("\n"));
    }

    #[test]
    fn there_is_one_tls_stack() {
        let packages = packages();
        let names: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
        let banned: Vec<_> = BANNED.iter().filter(|name| names.contains(name)).collect();
        assert!(
            banned.is_empty(),
            "a second TLS stack came in with {banned:?}: find it with `cargo tree -i NAME`"
        );
    }

    #[test]
    fn an_expression_needs_one_alternative_that_is_allowed_whole() {
        assert!(is_allowed("GPL-3.0 OR MIT"));
        assert!(is_allowed("MIT/Apache-2.0"));
        assert!(is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(!is_allowed("MIT AND GPL-3.0"));
        assert!(!is_allowed("AGPL-3.0"));
    }
}
