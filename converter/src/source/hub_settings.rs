//! Where the hub and its cache are, by the variables that the hub's other programs read.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use crate::Error;

/// The hub, if nothing names another.
const ENDPOINT: &str = "https://huggingface.co";

/// Where the hub and its cache are.
#[derive(Clone, PartialEq, Eq)]
pub struct HubSettings {
    /// `HF_ENDPOINT`.
    pub endpoint: String,
    /// `HF_HUB_CACHE`, or `hub` in `HF_HOME`.
    pub cache: PathBuf,
    /// `HF_TOKEN`, or the content of `HF_TOKEN_PATH` or of `token` in `HF_HOME`.
    pub token: Option<String>,
    /// `HF_HUB_OFFLINE`.
    pub offline: bool,
}

impl HubSettings {
    /// The settings of this process.
    ///
    /// # Errors
    /// [`Error::Hub`] where neither `HF_HOME` nor a home folder says where the cache is.
    pub fn from_env() -> Result<Self, Error> {
        Self::from(|name| std::env::var_os(name))
    }

    /// The settings that `variable` gives; one that is empty is as good as none.
    fn from(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).and_then(|value| value.into_string().ok());
        let home = home(set);
        let cache = set("HF_HUB_CACHE").map(PathBuf::from).or_else(|| Some(home.as_ref()?.join("hub")));
        let Some(cache) = cache else {
            return Err(Error::Hub {
                repository: "the hub's cache".into(),
                file: None,
                expected: "a folder for it".into(),
                found: "none".into(),
                hint: "set `HF_HOME`".into(),
            });
        };
        // hf-hub makes links relative to the cache, and needs both ends absolute for it.
        let cache = std::path::absolute(&cache).map_err(Error::io("find", &cache))?;
        let token_file = set("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(home?.join("token")));
        let token = text("HF_TOKEN")
            .or_else(|| fs::read_to_string(token_file?).ok())
            .map(|token| token.trim().to_string())
            // A header has no room for anything else.
            .filter(|token| !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic()));
        let offline = text("HF_HUB_OFFLINE")
            .is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str()));
        let endpoint =
            text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into()).trim_end_matches('/').to_string();
        Ok(Self { endpoint, cache, token, offline })
    }
}

/// The folder of Hugging Face's programs, as the variables say that `set` gives: `HF_HOME`, or `huggingface` where caches are.
pub(super) fn home(set: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    set("HF_HOME")
        .map(PathBuf::from)
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| PathBuf::from(cache).join("huggingface")))
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".cache/huggingface")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> HubSettings {
        HubSettings::from(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into())).unwrap()
    }

    #[test]
    fn every_variable_has_its_place() {
        let dir = tempfile::TempDir::new().unwrap();
        let home = dir.path().to_str().unwrap();
        fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        let settings = of(&[("HF_HOME", home), ("HOME", "/nobody"), ("HF_ENDPOINT", "http://localhost:1/")]);
        assert_eq!(settings.cache, dir.path().join("hub"));
        assert_eq!(settings.token.as_deref(), Some("hf_file"));
        assert_eq!(settings.endpoint, "http://localhost:1");
        assert!(!settings.offline);

        let settings =
            of(&[("HF_HOME", home), ("HF_HUB_CACHE", "/c"), ("HF_TOKEN", "t"), ("HF_HUB_OFFLINE", "1")]);
        assert_eq!(
            (settings.cache, settings.token.as_deref(), settings.offline),
            ("/c".into(), Some("t"), true)
        );

        let settings =
            of(&[("HOME", "/nobody"), ("HF_HUB_OFFLINE", "0"), ("HF_TOKEN", "a\nb"), ("HF_ENDPOINT", "")]);
        assert_eq!(settings.cache, PathBuf::from("/nobody/.cache/huggingface/hub"));
        assert_eq!((settings.token, settings.offline, settings.endpoint.as_str()), (None, false, ENDPOINT));
        assert_eq!(of(&[("XDG_CACHE_HOME", "/x")]).cache, PathBuf::from("/x/huggingface/hub"));
        let error = HubSettings::from(|_| None).err().unwrap();
        assert!(error.hint().unwrap().contains("HF_HOME"));
    }
}
