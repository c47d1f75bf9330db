//! What it takes to make a program trust our authority: the certificate in every form, and the line to paste.
//!
//! Text only. May not enter: files, running other programs, changing anybody's trust store.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::Authority;

/// Where the exported files lie, as the reader of the instructions sees them.
#[derive(Debug, Clone)]
pub struct TrustFiles {
    /// The authority alone, PEM.
    pub pem: String,
    /// The authority alone, DER.
    pub der: String,
    /// The system's roots and ours in one PEM, see [`bundle`].
    pub bundle: String,
    /// The C header, see [`c_header`].
    pub header: String,
}

/// How one kind of program is made to trust the authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// What to ask for: `python`, `node`, …
    pub name: &'static str,
    pub title: &'static str,
    /// Shell lines, for a program that is not changed. May be empty.
    pub shell: Vec<String>,
    /// Lines of code or configuration, for a program that is. May be empty.
    pub code: Vec<String>,
    /// A trap to know of. May be empty.
    pub note: &'static str,
}

impl Authority {
    /// For `ca.der`, boards and modem security slots.
    pub fn export_der(&self) -> Vec<u8> {
        self.certificate_der().to_vec()
    }
}

/// Every PEM of `system_pem` and then ours. `SSL_CERT_FILE` replaces the system's list, so a program that is
/// pointed at our certificate alone would trust nothing else any more.
pub fn bundle(system_pem: &str, authority_pem: &str) -> String {
    let system = system_pem.trim_end();
    let gap = if system.is_empty() { "" } else { "\n" };
    format!("{system}{gap}{}\n", authority_pem.trim_end())
}

/// Base64 of the DER on one line, for environment variables and secrets.
pub fn one_line(der: &[u8]) -> String {
    STANDARD.encode(der)
}

/// A C header with the PEM as `static const char <name>[]`, as the C SDK's `TrustedCerts` option and most
/// board libraries take it. `name` is made into a C identifier.
pub fn c_header(authority_pem: &str, name: &str) -> String {
    let name = identifier(name);
    let guard = format!("{}_H", name.to_ascii_uppercase());
    let lines = authority_pem.lines().filter(|line| !line.is_empty());
    let lines: Vec<String> = lines.map(|line| format!("    \"{line}\\n\"")).collect();
    let text = lines.join("\n");
    format!(
        "/* The local Azimuth certificate authority. Trust it in tests only. */\n\
         #ifndef {guard}\n#define {guard}\n\n\
         static const char {name}[] =\n{text};\n\n#endif\n"
    )
}

/// One row for each kind of program.
pub fn trust_rows(files: &TrustFiles) -> Vec<Runtime> {
    let (pem, der, bundle, header) = (
        quoted(&files.pem),
        quoted(&files.der),
        quoted(&files.bundle),
        quoted(&files.header),
    );
    let export = |variable: &str, value: &str| format!("export {variable}={value}");
    vec![
        Runtime {
            name: "python",
            title: "Python (azure-iot-device)",
            shell: vec![export("SSL_CERT_FILE", &bundle)],
            code: vec![format!(
                "client = IoTHubDeviceClient.create_from_connection_string(text, server_verification_cert=open({}).read())",
                literal(&files.pem)
            )],
            note: "SSL_CERT_FILE replaces the system's list, so it names the bundle.",
        },
        Runtime {
            name: "requests",
            title: "Python requests, Azure CLI",
            shell: vec![export("REQUESTS_CA_BUNDLE", &bundle)],
            code: vec![],
            note: "REQUESTS_CA_BUNDLE replaces the built-in list, so it names the bundle.",
        },
        Runtime {
            name: "node",
            title: "Node.js",
            shell: vec![export("NODE_EXTRA_CA_CERTS", &pem)],
            code: vec![format!(
                "client.setOptions({{ ca: fs.readFileSync({}, 'utf8') }})",
                literal(&files.pem)
            )],
            note: "Read once, when the process starts.",
        },
        Runtime {
            name: "c",
            title: "Azure IoT C SDK",
            shell: vec![export("SSL_CERT_FILE", &bundle)],
            code: vec![
                format!("#include {}", literal(&files.header)),
                "IoTHubDeviceClient_LL_SetOption(client, OPTION_TRUSTED_CERT, azimuth_ca);".into(),
            ],
            note: "SSL_CERT_FILE works for builds with OpenSSL. Samples built with use_sample_trusted_cert carry their own list.",
        },
        Runtime {
            name: "dotnet",
            title: ".NET",
            shell: vec![export("SSL_CERT_FILE", &bundle)],
            code: vec![],
            note: "On Linux. On Windows import the PEM into the user's trusted roots (certutil -user -addstore Root), on macOS into the keychain.",
        },
        Runtime {
            name: "java",
            title: "Java",
            shell: vec![
                format!(
                    "keytool -importcert -noprompt -alias azimuth -file {pem} -keystore azimuth-trust.p12 -storetype PKCS12 -storepass changeit"
                ),
                "export JAVA_TOOL_OPTIONS=\"-Djavax.net.ssl.trustStore=$PWD/azimuth-trust.p12 -Djavax.net.ssl.trustStorePassword=changeit\"".into(),
            ],
            code: vec![],
            note: "The store holds this one authority: the program then reaches nothing else over TLS.",
        },
        Runtime {
            name: "mosquitto",
            title: "mosquitto_pub, mosquitto_sub",
            shell: vec![format!("mosquitto_pub --cafile {pem} …")],
            code: vec![],
            note: "",
        },
        Runtime {
            name: "curl",
            title: "curl",
            shell: vec![
                format!("curl --cacert {pem} …"),
                export("CURL_CA_BUNDLE", &bundle),
            ],
            code: vec![],
            note: "",
        },
        Runtime {
            name: "go",
            title: "Go, Rust with native roots",
            shell: vec![export("SSL_CERT_FILE", &bundle)],
            code: vec![],
            note: "On Linux.",
        },
        Runtime {
            name: "debian",
            title: "Debian, Ubuntu: the whole machine",
            shell: vec![
                format!("sudo cp {pem} /usr/local/share/ca-certificates/azimuth.crt"),
                "sudo update-ca-certificates".into(),
            ],
            code: vec![],
            note: "Every program that uses the system's list then trusts this authority. Its key must not leave the data folder.",
        },
        Runtime {
            name: "board",
            title: "Boards and modems",
            shell: vec![format!("cp {header} include/   # or flash {der}")],
            code: vec!["client.setCACert(azimuth_ca);".into()],
            note: "PEM in a C array, or DER in flash or a security slot. The authority's key is P-256.",
        },
    ]
}

/// Whole in a POSIX shell, whatever the path holds.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !path.is_empty() && path.chars().all(plain) {
        return path.to_owned();
    }
    format!("'{}'", path.replace('\'', r"'\''"))
}

/// A string literal as C, Python and JavaScript read it.
fn literal(path: &str) -> String {
    format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
}

fn identifier(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = name.chars().map(keep).collect();
    match name.chars().next() {
        Some(first) if !first.is_ascii_digit() => name,
        Some(_) | None => format!("_{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_holds_each_line_of_the_pem_in_quotes() {
        let header = c_header("-----BEGIN X-----\nAAAA\n-----END X-----\n", "azimuth-ca");
        assert!(header.contains(
            "static const char azimuth_ca[] =\n    \"-----BEGIN X-----\\n\"\n    \"AAAA\\n\""
        ));
        assert!(header.contains("    \"-----END X-----\\n\";\n"));
    }

    #[test]
    fn paths_with_blanks_and_quotes_stay_whole() {
        for (path, text) in [
            ("/data/ca.pem", "/data/ca.pem"),
            ("/my data/ca.pem", "'/my data/ca.pem'"),
            ("it's.pem", r"'it'\''s.pem'"),
        ] {
            assert_eq!(quoted(path), text);
        }
    }

    #[test]
    fn the_bundle_keeps_the_systems_roots() {
        assert_eq!(bundle("A\n", "B\n"), "A\nB\n");
        assert_eq!(bundle("", "B"), "B\n");
    }
}
