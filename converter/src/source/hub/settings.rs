//! Where the hub and its cache are, by the variables that the hub's other programs read.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Error;

/// The hub, if nothing names another.
const ENDPOINT: &str = "https://huggingface.co";

/// Where the hub and its cache are.
#[derive(Clone, PartialEq, Eq)]
pub struct HubSettings {
    /// `HF_ENDPOINT`.
    pub endpoint: String,
    /// `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, or `hub` in `HF_HOME`.
    pub cache: PathBuf,
    /// `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`, or the content of `HF_TOKEN_PATH` or of `token` in `HF_HOME`.
    pub token: Option<String>,
    /// `HF_HUB_OFFLINE`, or `TRANSFORMERS_OFFLINE`.
    pub offline: bool,
    /// `HF_HUB_DOWNLOAD_TIMEOUT`: how long to wait for a connection, and for the next bytes.
    pub timeout: Duration,
    /// `HF_HUB_ETAG_TIMEOUT`: how long to wait for what the hub says of a repository or a file.
    pub metadata_timeout: Duration,
}

impl HubSettings {
    /// The settings of this process.
    ///
    /// # Errors
    /// [`Error::Hub`] where neither a variable nor a home folder says where the cache is.
    pub fn from_env() -> Result<Self, Error> {
        Self::from(environment)
    }

    /// The settings that `variable` gives; one that is empty is as good as none.
    fn from(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let folders = HubFolders { variable: &variable };
        let text = |name: &str| folders.set(name).and_then(|value| value.into_string().ok());
        let Some(cache) = folders.hub() else {
            return Err(Error::Hub {
                repository: "the hub's cache".into(),
                file: None,
                expected: "a folder for it".into(),
                found: "none".into(),
                hint: "set `HF_HOME`".into(),
            });
        };
        let cache = std::path::absolute(&cache).map_err(Error::io("find", &cache))?;
        let token = text("HF_TOKEN")
            .or_else(|| text("HUGGING_FACE_HUB_TOKEN"))
            .or_else(|| fs::read_to_string(folders.token_file()?).ok())
            .map(|token| token.trim().to_string())
            // A header has no room for anything else.
            .filter(|token| !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic()));
        let offline = text("HF_HUB_OFFLINE")
            .or_else(|| text("TRANSFORMERS_OFFLINE"))
            .is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str()));
        let endpoint =
            text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into()).trim_end_matches('/').to_string();
        let (timeout, metadata_timeout) =
            (folders.seconds("HF_HUB_DOWNLOAD_TIMEOUT")?, folders.seconds("HF_HUB_ETAG_TIMEOUT")?);
        Ok(Self { endpoint, cache, token, offline, timeout, metadata_timeout })
    }
}

/// The variables of this process; where `HOME` is not set, the home folder that the system knows stands for it.
pub(in crate::source) fn environment(name: &str) -> Option<OsString> {
    let home = || (name == "HOME").then(std::env::home_dir).flatten().map(PathBuf::into_os_string);
    std::env::var_os(name).or_else(home)
}

/// The folders of Hugging Face's programs, in the order of precedence that they have, for downloads and the search for code.
pub(in crate::source) struct HubFolders<'a> {
    /// The variable of this name.
    pub(in crate::source) variable: &'a dyn Fn(&str) -> Option<OsString>,
}

impl HubFolders<'_> {
    fn set(&self, name: &str) -> Option<OsString> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    /// A number of seconds; 10 where nothing is set, or 0.
    fn seconds(&self, name: &str) -> Result<Duration, Error> {
        const DEFAULT: Duration = Duration::from_secs(10);
        let Some(text) = self.set(name) else { return Ok(DEFAULT) };
        let text = text.to_string_lossy().into_owned();
        let seconds = text.trim().parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match seconds {
            Some(Duration::ZERO) => Ok(DEFAULT),
            Some(seconds) => Ok(seconds),
            None => Err(Error::Hub {
                repository: name.into(),
                file: None,
                expected: "a number of seconds".into(),
                found: format!("`{}`", text.escape_debug()),
                hint: format!("set `{name}` to one, or to nothing"),
            }),
        }
    }

    /// `HF_HOME`, or `huggingface` where caches are.
    fn home(&self) -> Option<PathBuf> {
        let home = self
            .set("HF_HOME")
            .or_else(|| Some(Path::new(&self.set("XDG_CACHE_HOME")?).join("huggingface").into()))
            .or_else(|| Some(Path::new(&self.set("HOME")?).join(".cache/huggingface").into()))?;
        Some(self.expanded(home))
    }

    /// The cache of repositories: `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE` as it was called before, or `hub` in `HF_HOME`.
    pub(in crate::source) fn hub(&self) -> Option<PathBuf> {
        let named = self.set("HF_HUB_CACHE").or_else(|| self.set("HUGGINGFACE_HUB_CACHE"));
        named.map(|named| self.expanded(named)).or_else(|| Some(self.home()?.join("hub")))
    }

    /// The cache of the code that transformers ran: `HF_MODULES_CACHE`, or `modules` in `HF_HOME`.
    pub(in crate::source) fn modules(&self) -> Option<PathBuf> {
        // transformers takes this one as it stands.
        self.set("HF_MODULES_CACHE").map(PathBuf::from).or_else(|| Some(self.home()?.join("modules")))
    }

    /// The file that `hf auth login` writes: `HF_TOKEN_PATH`, or `token` in `HF_HOME`.
    fn token_file(&self) -> Option<PathBuf> {
        let named = self.set("HF_TOKEN_PATH").map(|named| self.expanded(named));
        named.or_else(|| Some(self.home()?.join("token")))
    }

    /// The path with `~` in front, `$NAME` and `${NAME}` replaced, which a shell leaves alone between quotes or in a file of
    /// variables; what is not set stays as it is.
    fn expanded(&self, path: OsString) -> PathBuf {
        let Some(text) = path.to_str() else { return path.into() };
        let mut expanded = OsString::new();
        let mut rest = text;
        if let Some(below) = text.strip_prefix('~').filter(|below| below.is_empty() || below.starts_with('/'))
            && let Some(home) = self.set("HOME")
        {
            expanded.push(home);
            rest = below;
        }
        while let Some((before, after)) = rest.split_once('$') {
            expanded.push(before);
            let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let (name, behind) = braced.unwrap_or_else(|| {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                after.split_at(after.find(|c| !is_name(c)).unwrap_or(after.len()))
            });
            match (self.variable)(name).filter(|_| !name.is_empty()) {
                Some(value) => expanded.push(value),
                None => expanded.push(&rest[before.len()..rest.len() - behind.len()]),
            }
            rest = behind;
        }
        expanded.push(rest);
        expanded.into()
    }
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
        let settings =
            of(&[("HOME", "/h"), ("HUGGING_FACE_HUB_TOKEN", "old"), ("TRANSFORMERS_OFFLINE", "ON")]);
        assert_eq!((settings.token.as_deref(), settings.offline), (Some("old"), true));
        let error = HubSettings::from(|_| None).err().unwrap();
        assert!(error.hint().unwrap().contains("HF_HOME"));
    }

    #[test]
    fn times_are_numbers_of_seconds() {
        let settings = of(&[("HOME", "/h")]);
        assert_eq!((settings.timeout.as_secs(), settings.metadata_timeout.as_secs()), (10, 10));
        let set =
            |text| of(&[("HOME", "/h"), ("HF_HUB_DOWNLOAD_TIMEOUT", text), ("HF_HUB_ETAG_TIMEOUT", "3")]);
        assert_eq!((set("60").timeout.as_secs(), set("60").metadata_timeout.as_secs()), (60, 3));
        assert_eq!(set("0.5").timeout, Duration::from_millis(500));
        assert_eq!(set("0").timeout.as_secs(), 10);
        for wrong in ["soon", "-1", "1e300", "NaN"] {
            let variable =
                |name: &str| (name == "HOME" || name == "HF_HUB_ETAG_TIMEOUT").then(|| wrong.into());
            let error = HubSettings::from(variable).err().unwrap().to_string();
            assert_eq!(
                error,
                format!("`HF_HUB_ETAG_TIMEOUT`: expected a number of seconds, found `{wrong}`")
            );
        }
    }

    /// What `huggingface_hub.constants.HF_HUB_CACHE` is for the same variables.
    #[test]
    fn the_cache_is_where_huggingface_hub_has_it() {
        const ALL: [(&str, &str); 5] = [
            ("HF_HUB_CACHE", "/1"),
            ("HUGGINGFACE_HUB_CACHE", "/2"),
            ("HF_HOME", "/3"),
            ("XDG_CACHE_HOME", "/4"),
            ("HOME", "/5"),
        ];
        let expected = ["/1", "/2", "/3/hub", "/4/huggingface/hub", "/5/.cache/huggingface/hub"];
        for (first, expected) in expected.into_iter().enumerate() {
            assert_eq!(of(&ALL[first..]).cache, PathBuf::from(expected));
            // One that is empty is none.
            let empty: Vec<_> =
                ALL.iter().enumerate().map(|(i, &(n, v))| (n, if i < first { "" } else { v })).collect();
            assert_eq!(of(&empty).cache, PathBuf::from(expected));
        }
    }

    #[test]
    fn a_home_folder_and_variables_are_expanded_in_a_path() {
        for (named, expected) in [
            ("~", "/h"),
            ("~/c", "/h/c"),
            ("/a~/c", "/a~/c"),
            ("/$X/${X}-c/$X.d", "/x/x-c/x.d"),
            ("/$NONE/${NONE}/$/${X/$", "/$NONE/${NONE}/$/${X/$"),
        ] {
            for name in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"] {
                let cache = of(&[(name, named), ("HOME", "/h"), ("X", "x")]).cache;
                assert_eq!(cache, PathBuf::from(expected), "{named}");
            }
            let cache = of(&[("HF_HOME", named), ("HOME", "/h"), ("X", "x")]).cache;
            assert_eq!(cache, Path::new(expected).join("hub"), "{named}");
        }
    }
}
