//! What other people's programs say of our certificates: the openssl command line, in its strictest mode.
//!
//! Says so and passes where openssl is not installed.
#![allow(clippy::unwrap_used)]

mod common;

use azimuth_certs::{Authority, ServerIdentity, ServerNames};
use common::{Folder, now, openssl};

#[test]
fn openssl_accepts_the_chain_strictly() {
    let folder = Folder::new();
    let authority = Authority::load_or_create(&folder, now()).unwrap();
    let names = ServerNames::parse(["hub.example", "127.0.0.11", "::1"]).unwrap();
    ServerIdentity::load_or_issue(&folder, &authority, &names, now()).unwrap();
    for leaf in ["server-p256.pem", "server-rsa.pem"] {
        for (check, accepted) in [
            ("-verify_hostname hub.example", true),
            ("-verify_ip 127.0.0.11", true),
            ("-verify_ip ::1", true),
            ("-verify_hostname other.example", false),
            ("-verify_ip 127.0.0.12", false),
        ] {
            let line = format!(
                "verify -x509_strict -check_ss_sig -purpose sslserver -attime 1795000000 {check} -CAfile ca.pem {leaf}"
            );
            let Some((content, text)) = openssl(&folder, &line) else {
                eprintln!("openssl is not installed: nothing was checked");
                return;
            };
            assert_eq!(content, accepted, "{leaf} {check}: {text}");
        }
    }
    for (file, expected) in [
        (
            "ca.pem",
            &[
                "CA:TRUE, pathlen:0",
                "Subject Key Identifier",
                "Certificate Sign, CRL Sign",
            ][..],
        ),
        (
            "server-p256.pem",
            &[
                "CA:FALSE",
                "Authority Key Identifier",
                "TLS Web Server Authentication",
                "Digital Signature",
            ],
        ),
        (
            "server-rsa.pem",
            &[
                "Digital Signature, Key Encipherment",
                "Public-Key: (2048 bit)",
            ],
        ),
    ] {
        let (_, text) = openssl(&folder, &format!("x509 -in {file} -noout -text")).unwrap();
        for part in expected {
            assert!(text.contains(part), "{file} lacks {part}:\n{text}");
        }
    }
}
