//! Authority and server identity on disk: made once, kept, refused when damaged.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use azimuth_certs::{Authority, Error, KeyKind, Renewal, ServerIdentity, ServerNames};
use common::{Folder, now};

#[test]
fn an_authority_is_made_once_and_is_the_same_after_a_restart() {
    let folder = Folder::new();
    let first = Authority::load_or_create(&folder, now()).unwrap();
    let files = snapshot(&folder);
    let second = Authority::load_or_create(&folder, now() + YEAR).unwrap();
    assert_eq!(first.certificate_der(), second.certificate_der());
    assert_eq!(first.path(), folder.join("ca.pem"));
    assert_eq!(snapshot(&folder), files);
    for (file, mode) in [("ca.pem", 0o644), ("ca.key", 0o600)] {
        let found = fs::metadata(folder.join(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(found & 0o777, mode, "{file}");
    }
}

#[test]
fn several_processes_at_once_make_one_authority() {
    let folder = Folder::new();
    let made: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| Authority::load_or_create(&folder, now()).unwrap()))
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join().unwrap());
        joined.map(|one| one.certificate_der().to_vec()).collect()
    });
    assert!(made.iter().all(|one| *one == made[0]));
}

#[test]
fn a_damaged_authority_is_refused_and_left_as_it_is() {
    type Damage = fn(&Path);
    type Expected = fn(&Error) -> bool;
    let rows: [(&str, Damage, Expected); 8] = [
        (
            "the key is gone",
            |f| fs::remove_file(f.join("ca.key")).unwrap(),
            |e| matches!(e, Error::HalfPair { .. }),
        ),
        (
            "the certificate is gone",
            |f| fs::remove_file(f.join("ca.pem")).unwrap(),
            |e| matches!(e, Error::HalfPair { .. }),
        ),
        (
            "the certificate is cut",
            |f| cut(&f.join("ca.pem")),
            |e| matches!(e, Error::DamagedCertificate { .. }),
        ),
        (
            "the certificate is empty",
            |f| fs::write(f.join("ca.pem"), "").unwrap(),
            |e| matches!(e, Error::DamagedCertificate { .. }),
        ),
        (
            "the certificate is not text",
            |f| fs::write(f.join("ca.pem"), [0xff; 9]).unwrap(),
            |e| matches!(e, Error::DamagedCertificate { .. }),
        ),
        (
            "the key is cut",
            |f| cut(&f.join("ca.key")),
            |e| matches!(e, Error::DamagedKey { .. }),
        ),
        (
            "the key is another's",
            |f| {
                let other = Folder::new();
                Authority::load_or_create(&other, now()).unwrap();
                fs::copy(other.join("ca.key"), f.join("ca.key")).unwrap();
            },
            |e| matches!(e, Error::MismatchedPair { .. }),
        ),
        (
            "it is no authority",
            |f| {
                let authority = Authority::load_or_create(f, now()).unwrap();
                let leaf = authority
                    .issue_server(&names(&["a.example"]), KeyKind::P256, now())
                    .unwrap();
                fs::write(f.join("ca.pem"), leaf.chain_pem).unwrap();
                fs::write(f.join("ca.key"), leaf.key_pem).unwrap();
            },
            |e| matches!(e, Error::NotAnAuthority { .. }),
        ),
    ];
    for (what, damage, expected) in rows {
        let folder = Folder::new();
        Authority::load_or_create(&folder, now()).unwrap();
        damage(&folder);
        let before = snapshot(&folder);
        let error = Authority::load_or_create(&folder, now()).unwrap_err();
        assert!(expected(&error), "{what}: {error:?}");
        assert_eq!(snapshot(&folder), before, "{what}");
        assert!(!error.to_string().contains("PRIVATE"), "{what}");
    }
}

#[test]
fn a_creation_cut_off_between_its_two_renames_is_finished() {
    let folder = Folder::new();
    let made = Authority::load_or_create(&folder, now()).unwrap();
    fs::rename(folder.join("ca.pem"), folder.join("ca.pem.new")).unwrap();
    let again = Authority::load_or_create(&folder, now()).unwrap();
    assert_eq!(made.certificate_der(), again.certificate_der());
    assert!(folder.join("ca.pem").exists());
    assert!(!folder.join("ca.pem.new").exists());
}

#[test]
fn an_authority_out_of_its_time_is_explained() {
    let folder = Folder::new();
    Authority::load_or_create(&folder, now()).unwrap();
    let late = Authority::load_or_create(&folder, now() + 21 * YEAR).unwrap_err();
    assert!(matches!(late, Error::AuthorityExpired { .. }), "{late}");
    assert!(late.to_string().contains("expired at 2046-"), "{late}");
    let early = Authority::load_or_create(&folder, now() - YEAR).unwrap_err();
    assert!(
        matches!(early, Error::AuthorityNotYetValid { .. }),
        "{early}"
    );
}

#[test]
fn lives_are_bounded() {
    for (start, ends) in [
        (now(), "2046"),
        (now() + 10 * YEAR, "2049"),
        (now() + 24 * YEAR, "2070"),
    ] {
        let folder = Folder::new();
        let authority = Authority::load_or_create(&folder, start).unwrap();
        let info = authority.certificate().info();
        assert!(
            info.not_after_utc.starts_with(ends),
            "{}",
            info.not_after_utc
        );
        let leaf = authority
            .issue_server(&names(&["a.example"]), KeyKind::P256, start)
            .unwrap();
        let leaf = azimuth_certs::Certificate::read_first(leaf.chain_pem.as_bytes()).unwrap();
        let span = leaf.validity();
        assert!(span.not_after.duration_since(span.not_before).unwrap() <= 397 * DAY);
        assert_eq!(
            start.duration_since(span.not_before).unwrap(),
            Duration::from_secs(3600)
        );
        assert!(span.not_after <= authority.certificate().validity().not_after);
    }
}

#[test]
fn a_server_identity_is_kept_until_something_asks_for_a_new_one() {
    let folder = Folder::new();
    let authority = Authority::load_or_create(&folder, now()).unwrap();
    let load = |names: &ServerNames, at| {
        ServerIdentity::load_or_issue(&folder, &authority, names, at).unwrap();
        snapshot(&folder)
    };
    let made = load(&names(&["a.example", "127.0.0.11"]), now());
    let same = load(
        &names(&["127.0.0.11", "A.example.", "a.example"]),
        now() + 260 * DAY,
    );
    assert_eq!(same, made, "the same names in another order");
    let aged = load(&names(&["a.example", "127.0.0.11"]), now() + 270 * DAY);
    assert_only_certificates_changed(&made, &aged);
    let renamed = load(&names(&["b.example"]), now() + 270 * DAY);
    assert_only_certificates_changed(&aged, &renamed);
    let back_in_time = load(&names(&["b.example"]), now());
    assert_only_certificates_changed(&renamed, &back_in_time);
    for damage in ["server-p256.key", "server-p256.pem"] {
        fs::write(folder.join(damage), "torn").unwrap();
        load(&names(&["b.example"]), now());
    }
}

#[test]
fn a_new_authority_means_new_server_certificates() {
    let (folder, other) = (Folder::new(), Folder::new());
    let first = Authority::load_or_create(&folder, now()).unwrap();
    ServerIdentity::load_or_issue(&folder, &first, &names(&["a.example"]), now()).unwrap();
    let made = snapshot(&folder);
    let second = Authority::load_or_create(&other, now()).unwrap();
    ServerIdentity::load_or_issue(&folder, &second, &names(&["a.example"]), now()).unwrap();
    assert_only_certificates_changed(&made, &snapshot(&folder));
}

#[test]
fn a_renewal_says_why_and_says_it_once() {
    let (folder, other) = (Folder::new(), Folder::new());
    let theirs = Authority::load_or_create(&folder, now()).unwrap();
    let ours = Authority::load_or_create(&other, now()).unwrap();
    let remove = |file: &str| fs::remove_file(folder.join(file)).unwrap();
    let tear = |file: &str| fs::write(folder.join(file), "torn").unwrap();
    let stranger = ours
        .issue_server(&names(&["a.example"]), KeyKind::P256, now())
        .unwrap();
    let of_theirs = |name| {
        ServerIdentity::load_or_issue(&folder, &theirs, &names(&[name]), now()).unwrap();
    };
    let another = || Renewal::AnotherAuthority {
        issuer: theirs.certificate().info().subject_name,
    };

    type Row<'a> = (&'a str, u32, &'a dyn Fn(), Renewal);
    let rows: [Row<'_>; 9] = [
        ("a.example", 0, &|| {}, Renewal::Missing),
        (
            "a.example",
            0,
            &|| remove("server-rsa.pem"),
            Renewal::Missing,
        ),
        (
            "a.example",
            0,
            &|| remove("server-p256.key"),
            Renewal::Missing,
        ),
        (
            "a.example",
            0,
            &|| tear("server-p256.pem"),
            Renewal::Unreadable,
        ),
        (
            "a.example",
            0,
            &|| fs::write(folder.join("server-p256.key"), &stranger.key_pem).unwrap(),
            Renewal::Unreadable,
        ),
        ("b.example", 0, &|| {}, Renewal::NamesChanged),
        ("b.example", 270, &|| {}, Renewal::NearExpiry),
        ("b.example", 270, &|| of_theirs("b.example"), another()),
        // Of several reasons the one that concerns clients most.
        (
            "c.example",
            270,
            &|| {
                of_theirs("b.example");
                remove("server-p256.pem");
            },
            another(),
        ),
    ];
    for (number, (name, days, change, why)) in rows.into_iter().enumerate() {
        change();
        let load = || {
            let at = now() + DAY * days;
            let loaded = ServerIdentity::load_or_issue(&folder, &ours, &names(&[name]), at);
            loaded.unwrap().renewed().cloned()
        };
        assert_eq!(load(), Some(why), "row {number}");
        assert_eq!(load(), None, "row {number}, seen again");
    }
}

#[test]
fn no_key_shows_in_debug_text() {
    let folder = Folder::new();
    let authority = Authority::load_or_create(&folder, now()).unwrap();
    let leaf = authority
        .issue_client("dev1", KeyKind::P256, now())
        .unwrap();
    let secret = leaf.key_pem.lines().nth(1).unwrap();
    let ca_secret = fs::read_to_string(folder.join("ca.key")).unwrap();
    let text = format!("{leaf:?} {authority:?}");
    assert!(!text.contains(secret));
    assert!(!text.contains(ca_secret.lines().nth(1).unwrap()));
}

fn names(names: &[&str]) -> ServerNames {
    ServerNames::parse(names).unwrap()
}

fn cut(path: &Path) {
    let text = fs::read(path).unwrap();
    fs::write(path, &text[..text.len() / 2]).unwrap();
}

type Files = Vec<(String, Vec<u8>)>;

fn snapshot(folder: &Path) -> Files {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut files: Files = entries
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .filter(|(name, _)| name != ".lock")
        .collect();
    files.sort();
    files
}

fn assert_only_certificates_changed(before: &Files, after: &Files) {
    for ((name, old), (other, new)) in before.iter().zip(after) {
        assert_eq!(name, other);
        let changes = name.starts_with("server-") && name.ends_with(".pem");
        assert_eq!(old != new, changes, "{name}");
    }
}

const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);
