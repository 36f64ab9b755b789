//! Certificates, keys, tokens and kubeconfigs of a cluster, all made for it alone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use serde_json::json;

use crate::options::User;
use crate::wire::kubeconfig_file;

/// The user that may do everything.
pub(super) const ADMIN: &str = "admin";

/// Where the files are, and what the tokens are.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) ca_certificate: String,
    pub(super) ca_file: PathBuf,
    /// The certificate and key of everything that serves TLS on loopback.
    pub(super) serving_certificate_file: PathBuf,
    pub(super) serving_key_file: PathBuf,
    pub(super) service_account_key_file: PathBuf,
    pub(super) service_account_public_key_file: PathBuf,
    pub(super) token_file: PathBuf,
    pub(super) tokens: BTreeMap<String, String>,
}

impl Credentials {
    pub(super) fn new(directory: &Path, users: &[User]) -> Result<Self> {
        let (ca_certificate, ca) = authority()?;
        let serving_key = KeyPair::generate()?;
        let serving = serving_parameters()?.signed_by(&serving_key, &ca)?;
        let service_account_key = KeyPair::generate()?;
        let admin = User { name: ADMIN.to_owned(), groups: vec!["system:masters".to_owned()] };

        let mut tokens = BTreeMap::new();
        let mut token_lines = String::new();
        for user in std::iter::once(&admin).chain(users) {
            let token = random_token()?;
            token_lines += &format!(
                "{token},{name},{name},\"{groups}\"\n",
                name = user.name,
                groups = user.groups.join(",")
            );
            let before = tokens.insert(user.name.clone(), token);
            ensure!(before.is_none(), "two users are named {}", user.name);
        }

        let write = |name: &str, content: &str| -> Result<PathBuf> {
            let path = directory.join(name);
            fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        };
        Ok(Self {
            ca_file: write("ca.crt", &ca_certificate)?,
            ca_certificate,
            serving_certificate_file: write("serving.crt", &serving.pem())?,
            serving_key_file: write("serving.key", &serving_key.serialize_pem())?,
            service_account_key_file: write("service-account.key", &service_account_key.serialize_pem())?,
            service_account_public_key_file: write(
                "service-account.pub",
                &service_account_key.public_key_pem(),
            )?,
            token_file: write("tokens.csv", &token_lines)?,
            tokens,
        })
    }

    /// Writes a kubeconfig for each user and returns the admin's.
    pub(super) fn write_kubeconfigs(&self, directory: &Path, apiserver: &str) -> Result<PathBuf> {
        for (user, token) in &self.tokens {
            let kubeconfig = json!({
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "testbed",
                "clusters": [{"name": "testbed", "cluster": {"server": apiserver, "certificate-authority": self.ca_file}}],
                "users": [{"name": user, "user": {"token": token}}],
                "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": user}}],
            });
            fs::write(kubeconfig_file(directory, user), format!("{kubeconfig:#}\n"))?;
        }
        Ok(kubeconfig_file(directory, ADMIN))
    }
}

fn authority() -> Result<(String, Issuer<'static, KeyPair>)> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = common_name("testbed-ca");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    Ok((certificate.pem(), Issuer::new(parameters, key)))
}

fn serving_parameters() -> Result<CertificateParams> {
    let names = ["localhost", "127.0.0.1", "kubernetes.default.svc"];
    let mut parameters = CertificateParams::new(names.map(str::to_owned))?;
    parameters.distinguished_name = common_name("testbed");
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(parameters)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn random_token() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex::encode(bytes))
}
