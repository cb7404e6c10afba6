//! The URL of a store.

use std::path::PathBuf;

use url::Url;

use super::{ObjectError, ObjectKey};

/// Longest prefix of an S3 store, in bytes: S3 takes keys of 1024.
const PREFIX_BYTES_MAX: usize = 256;
const FORMS: &str = "use file:///DIR or s3://BUCKET/PREFIX?endpoint=URL&region=NAME";

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In a local directory.
    Files(PathBuf),
    /// In a bucket.
    S3(S3Location),
}

/// A place in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Location {
    /// The bucket.
    pub bucket: String,
    /// What every key begins with: empty, or parts joined and ended by `/`.
    pub prefix: String,
    /// The URL of the API, without a `/` at its end.
    pub endpoint: String,
    /// What is signed for.
    pub region: String,
}

impl Location {
    /// Reads a URL. What it says wrong is not repeated: a secret may have been put there.
    pub fn parse(text: &str) -> Result<Self, ObjectError> {
        let url = Url::parse(text).map_err(|error| invalid(&format!("is no URL ({error})")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid(
                "has credentials in it: put them in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ));
        }
        match url.scheme() {
            "file" => file(&url),
            "s3" => s3(&url).map(Self::S3),
            other => Err(invalid(&format!("begins with {other}:"))),
        }
    }
}

fn file(url: &Url) -> Result<Location, ObjectError> {
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("has more behind the directory"));
    }
    let dir = url.to_file_path().map_err(|()| invalid("names no local directory"))?;
    Ok(Location::Files(dir))
}

fn s3(url: &Url) -> Result<S3Location, ObjectError> {
    let bucket = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| invalid("names no bucket"))?;
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if url.port().is_some() || !bucket.bytes().all(known) {
        return Err(invalid("names no bucket that S3 would take"));
    }
    let prefix = url.path().trim_matches('/');
    if prefix.len() > PREFIX_BYTES_MAX {
        return Err(invalid(&format!("has a prefix of more than {PREFIX_BYTES_MAX} bytes")));
    }
    let prefix = match prefix {
        "" => String::new(),
        some => {
            format!("{}/", ObjectKey::new(some).map_err(|_| invalid("has a prefix that is no object key"))?)
        }
    };
    let (mut endpoint, mut region) = (None, None);
    for (name, value) in url.query_pairs() {
        let slot = match &*name {
            "endpoint" => &mut endpoint,
            "region" => &mut region,
            other => return Err(invalid(&format!("has the parameter {other:?}"))),
        };
        if value.is_empty() || slot.replace(value.into_owned()).is_some() {
            return Err(invalid(&format!("must have a value for {name}, and only one")));
        }
    }
    let endpoint = match (endpoint, &region) {
        (Some(endpoint), _) => checked_endpoint(&endpoint)?,
        (None, Some(region)) => format!("https://s3.{region}.amazonaws.com"),
        (None, None) => return Err(invalid("has neither endpoint nor region")),
    };
    let region = region.unwrap_or_else(|| "us-east-1".to_owned());
    Ok(S3Location { bucket: bucket.to_owned(), prefix, endpoint, region })
}

fn checked_endpoint(text: &str) -> Result<String, ObjectError> {
    let wrong = || invalid("has an endpoint that is not http://HOST:PORT or https://HOST:PORT");
    let url = Url::parse(text).map_err(|_| wrong())?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if !matches!(url.scheme(), "http" | "https") || !plain || url.path() != "/" || url.fragment().is_some() {
        return Err(wrong());
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn invalid(what: &str) -> ObjectError {
    ObjectError::Invalid(format!("the URL of the object store {what}: {FORMS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3(bucket: &str, prefix: &str, endpoint: &str, region: &str) -> Location {
        Location::S3(S3Location {
            bucket: bucket.into(),
            prefix: prefix.into(),
            endpoint: endpoint.into(),
            region: region.into(),
        })
    }

    #[test]
    fn both_forms_are_read() {
        assert_eq!(Location::parse("file:///var/lib/x").unwrap(), Location::Files("/var/lib/x".into()));
        for (url, location) in [
            ("s3://b/p/q?endpoint=http://h:1&region=r", s3("b", "p/q/", "http://h:1", "r")),
            ("s3://b?endpoint=https://h/", s3("b", "", "https://h", "us-east-1")),
            ("s3://b/p/?endpoint=http%3A%2F%2Fh%3A1", s3("b", "p/", "http://h:1", "us-east-1")),
            (
                "s3://b.c/p?region=eu-north-1",
                s3("b.c", "p/", "https://s3.eu-north-1.amazonaws.com", "eu-north-1"),
            ),
        ] {
            assert_eq!(Location::parse(url).unwrap(), location, "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_the_forms_and_without_secrets() {
        for url in [
            "",
            "/var/lib/x",
            "http://b/p",
            "file://host/x",
            "file:///x?y=1",
            "s3:///p?region=r",
            "s3://b/p",
            "s3://b/a//b?region=r",
            "s3://b/ä?region=r",
            "s3://b/p?region=",
            "s3://b/p?region=r&region=s",
            "s3://b/p?region=r&secret_key=hunter2",
            "s3://b/p?endpoint=h:1",
            "s3://b/p?endpoint=http://h:1/path",
            "s3://key:hunter2@b/p?region=r",
            "s3://b/p?endpoint=http://key:hunter2@h",
            &format!("s3://b/{}?region=r", "p".repeat(257)),
        ] {
            let Err(ObjectError::Invalid(text)) = Location::parse(url) else { panic!("{url} was taken") };
            assert!(text.contains(FORMS) && !text.contains("hunter2"), "{url}: {text}");
        }
    }
}
