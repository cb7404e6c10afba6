//! Unpacks what the page at `/docs` loads of Swagger UI: three files of the many in its archive, a seventh of its size.

use std::error::Error;
use std::io::{Cursor, Read};
use std::path::Path;

use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

const FILES: [&str; 3] = ["swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let out = std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: let cargo run this")?;
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED))?;
    // The archive has one directory, with the version in its name.
    let root =
        archive.name_for_index(0).and_then(|name| name.split('/').next()).ok_or("the archive is empty")?;
    let root = root.to_owned();
    for file in FILES {
        let mut bytes = Vec::new();
        archive.by_name(&format!("{root}/dist/{file}"))?.read_to_end(&mut bytes)?;
        std::fs::write(Path::new(&out).join(file), bytes)?;
    }
    Ok(())
}
