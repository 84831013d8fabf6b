//! The settings of a server that is one of several. Pure.

use std::time::Duration;

use super::duration;
use super::error::{ConfigError, error};
use super::secrets::text_of_file;
use crate::server::cluster::ClusterSettings;
use crate::server::cluster::url::ClusterUrl;

/// Where the database is that several servers share, if that is set.
pub(super) fn cluster(
    (session_ttl, reservation): (Duration, Duration),
    set: impl Fn(&str) -> Option<String>,
    read: impl Fn(&str) -> Result<String, String>,
) -> Result<Option<ClusterSettings>, ConfigError> {
    let one = |variable, file| match (set(variable), set(file)) {
        (Some(_), Some(path)) => Err(error(file, &path, format!("nothing where {variable} is set"))),
        (Some(value), None) => Ok(Some((variable, value))),
        (None, Some(path)) => Ok(Some((file, text_of_file(file, &path, &read)?))),
        (None, None) => Ok(None),
    };
    let (url, secret) = (one("CLUSTER_URL", "CLUSTER_URL_FILE")?, one("CLUSTER_SECRET", "CLUSTER_SECRET_FILE")?);
    let Some((variable, url)) = url else {
        return match (secret, set("CLUSTER_LEASE")) {
            (Some((variable, _)), _) => Err(error(variable, "(not shown)", "CLUSTER_URL beside it")),
            (None, Some(lease)) => Err(error("CLUSTER_LEASE", &lease, "CLUSTER_URL beside it")),
            (None, None) => Ok(None),
        };
    };
    let url = ClusterUrl::parse(url.trim()).map_err(|reason| {
        error(
            variable,
            "(not shown)",
            format!("redis://[[USER:]PASSWORD@]HOST[:PORT] or redis+unix:///PATH, but {reason}"),
        )
    })?;
    let lease = match set("CLUSTER_LEASE") {
        None => LEASE,
        Some(value) => {
            let lease = duration::parse(&value).filter(|lease| (MIN_LEASE..=MAX_LEASE).contains(lease));
            lease.ok_or_else(|| error("CLUSTER_LEASE", &value, "a duration from 1s to 5m, such as 15s"))?
        }
    };
    let secret = secret.map(|(_, secret)| secret).or_else(|| url.password.clone()).unwrap_or_default();
    Ok(Some(ClusterSettings { url, secret, lease, session_ttl, reservation }))
}

/// How long the names of a server that has vanished are taken for online. A server that is stopped in order ends it at
/// once.
const LEASE: Duration = Duration::from_secs(15);
const MIN_LEASE: Duration = Duration::from_secs(1);
const MAX_LEASE: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::super::tests::config;

    #[test]
    fn a_cluster_has_a_url_and_what_is_secret_is_not_shown() {
        let cluster = |variables: &[(&str, &str)]| config(variables).map(|config| config.cluster);
        assert_eq!(cluster(&[]), Ok(None));
        let settings = cluster(&[("CLUSTER_URL", "redis://:pass@h")]).unwrap().unwrap();
        assert_eq!((&*settings.secret, settings.lease.as_secs()), ("pass", 15));
        let url = ("CLUSTER_URL", "redis://h");
        let settings = cluster(&[url, ("CLUSTER_SECRET", "north"), ("CLUSTER_LEASE", "2s")]).unwrap().unwrap();
        assert_eq!((&*settings.secret, settings.lease.as_secs()), ("north", 2));
        let settings = cluster(&[url, ("CLUSTER_SECRET_FILE", "/token")]).unwrap().unwrap();
        assert_eq!(settings.secret, "s3cret");
        for (variables, named) in [
            (&[("CLUSTER_SECRET", "north")][..], "CLUSTER_SECRET is \"(not shown)\"; it takes CLUSTER_URL beside it"),
            (&[("CLUSTER_LEASE", "2s")], "CLUSTER_LEASE is \"2s\"; it takes CLUSTER_URL beside it"),
            (&[("CLUSTER_URL", "rediss://:pass@h")], "CLUSTER_URL is \"(not shown)\"; it takes redis://"),
            (&[url, ("CLUSTER_URL_FILE", "/token")], "CLUSTER_URL_FILE is \"/token\"; it takes nothing"),
            (&[("CLUSTER_URL_FILE", "/nowhere")], "CLUSTER_URL_FILE is \"/nowhere\"; it takes a file"),
            (&[url, ("CLUSTER_LEASE", "1h")], "CLUSTER_LEASE is \"1h\"; it takes a duration"),
            (&[("CLUSTER_URL", " ")], "CLUSTER_URL is \"\"; it takes a value"),
        ] {
            let message = config(variables).unwrap_err();
            assert!(message.starts_with(named) && !message.contains("pass"), "{message}");
        }
        assert!(!format!("{settings:?}").contains("s3cret"));
    }
}
