#![allow(clippy::unwrap_used)]
use super::*;

/// A folder that goes when the test does.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let name = format!("azimuth-folder-{}", uuid::Uuid::new_v4());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path.canonicalize().unwrap())
    }

    fn open(&self, uri: &str) -> Result<Folder, String> {
        Folder::new(&self.0.join("jobs"), &FolderPlace::parse(uri)?)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn put(folder: &Folder, blob: &str, text: &str) -> Result<(), Failure> {
    let mut writer = folder.write(blob)?;
    writer.add(text.as_bytes())?;
    writer.finish()
}

#[test]
fn uris_are_folders_below_the_hubs_own() {
    let scratch = Scratch::new();
    let jobs = scratch.0.join("jobs");
    let absolute = format!("file://{}/a/b%20c", jobs.display());
    for (uri, path) in [
        ("file:", jobs.clone()),
        ("file:a", jobs.join("a")),
        ("FILE:a//b/", jobs.join("a/b")),
        (absolute.as_str(), jobs.join("a/b c")),
        (&absolute.replace("://", "://localhost"), jobs.join("a/b c")),
        (&absolute.replace("://", ":"), jobs.join("a/b c")),
    ] {
        assert_eq!(scratch.open(uri).unwrap().path, path, "{uri}");
        assert!(path.is_dir());
    }
    for uri in [
        "file:..",
        "file:a/../../b",
        "file:a/%2e%2e/b",
        "file:a%2f..%2fb",
        "file:///etc",
        "file:/etc",
        "file://other/share",
        "file:a?sig=x",
        "file:./a",
    ] {
        assert!(scratch.open(uri).is_err(), "{uri}");
    }
}

#[test]
fn a_file_is_there_when_it_is_whole_and_not_before() {
    let scratch = Scratch::new();
    let folder = scratch.open("file:out").unwrap();
    assert_eq!(folder.find("d.txt").unwrap_err(), Failure::Missing);
    put(&folder, "d.txt", "first").unwrap();
    let mut writer = folder.write("d.txt").unwrap();
    writer.add(b"second").unwrap();
    let (file, size) = folder.find("d.txt").unwrap();
    assert_eq!(size, 5);
    drop(writer);
    assert_eq!(std::fs::read_dir(&folder.path).unwrap().count(), 1);
    // A job that was killed leaves its unfinished file to the next.
    std::mem::forget(folder.write("d.txt").unwrap());
    put(&folder, "d.txt", "third one").unwrap();
    // What was found before is what is read.
    assert_eq!(&read(&file, 0).unwrap()[..], b"first");
    assert_eq!(&read(&file, 3).unwrap()[..], b"st");
    assert!(read(&file, 5).unwrap().is_empty());
    assert_eq!(folder.find("d.txt").unwrap().1, 9);
    folder.delete("d.txt").unwrap();
    assert_eq!(folder.delete("d.txt"), Err(Failure::Missing));
}

#[test]
fn nobody_else_reads_an_export() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new();
    let folder = scratch.open("file:").unwrap();
    put(&folder, "devices.txt", "keys").unwrap();
    let (file, _) = folder.find("devices.txt").unwrap();
    let mode = file.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn no_link_leads_out() {
    let scratch = Scratch::new();
    let outside = scratch.0.join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(outside.join("secret"), "s").unwrap();
    let folder = scratch.open("file:in").unwrap();
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, folder.path.join(name));
    link(&outside, "way").unwrap();
    link(&outside.join("secret"), "file").unwrap();
    assert!(scratch.open("file:in/way").is_err());
    assert!(scratch.open("file:in/way/deeper").is_err());
    assert!(!outside.join("deeper").exists());
    assert!(folder.find("way/secret").is_err());
    assert!(put(&folder, "way/new", "x").is_err());
    assert!(folder.find("file").is_err());
    assert!(folder.find("way").is_err());
    // A link in the place of a file is replaced, not followed.
    put(&folder, "file", "mine").unwrap();
    assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"s");
    assert_eq!(folder.find("file").unwrap().1, 4);
}
