import COpenSSL
import Glibc
import Primitives

/// Why a certificate, a key, a request for one or a chain was refused. Each reason is distinct, for logs and metrics.
public enum CertificateError: Error, Hashable, Sendable, CustomStringConvertible {
  case malformed(String)
  case tooLarge(String, bytesMax: Int)
  case file(SystemError)
  case weakKey(String)
  /// The private key is not the one the certificate was issued for.
  case keyMismatch
  case noCertificate
  case expired
  case notYetValid
  case unknownAuthority
  case badSignature
  /// Its authority has taken it back.
  case revoked
  case chainTooLong
  /// A certificate authority's certificate was offered as a peer's.
  case authorityAsLeaf
  case notAnAuthority
  /// The leaf lacks a key usage or an extended key usage.
  case missingUsage(String)
  case noIdentity
  case severalIdentities(Int)
  case malformedIdentity(String)
  /// A subject alternative name that is neither URI nor DNS.
  case unsupportedName
  case foreignTrustDomain(String)
  /// The peer is who it says, and not the one expected.
  case unexpectedIdentity(String)
  case wrongHost(String)
  case noTrustedAuthorities
  /// What else OpenSSL found, in its words.
  case refused(String)

  public var description: String {
    switch self {
    case .malformed(let what): "\(what) is malformed"
    case .tooLarge(let what, let max): "\(what) has more than \(max) bytes"
    case .file(let error): error.description
    case .weakKey(let what): "the key is too weak: \(what)"
    case .keyMismatch: "the private key does not belong to the certificate"
    case .noCertificate: "the peer sent no certificate"
    case .expired: "the certificate has expired"
    case .notYetValid: "the certificate is not yet valid; compare the clocks of both hosts"
    case .unknownAuthority: "the certificate is not signed by a trusted authority"
    case .revoked: "the certificate was revoked"
    case .badSignature: "a signature in the certificate chain is wrong"
    case .chainTooLong: "the certificate chain is too long"
    case .authorityAsLeaf: "a certificate authority's certificate was offered as a peer's"
    case .notAnAuthority: "a certificate in the chain is not an authority's"
    case .missingUsage(let usage): "the certificate is not meant for \(usage)"
    case .noIdentity: "the certificate names no SPIFFE id"
    case .severalIdentities(let count): "the certificate names \(count) URIs where exactly one is allowed"
    case .malformedIdentity(let why): "the certificate's SPIFFE id is malformed: \(why)"
    case .unsupportedName: "the certificate has a name that is neither URI nor DNS"
    case .foreignTrustDomain(let domain): "the trust domain '\(domain)' is not trusted"
    case .unexpectedIdentity(let id): "the peer is '\(id)', which is not the one expected"
    case .wrongHost(let host): "the certificate is not for '\(host)'"
    case .noTrustedAuthorities: "no trusted authorities are loaded yet"
    case .refused(let why): "the certificate was refused: \(why)"
    }
  }

  /// The reason for an OpenSSL verification result (`X509_V_ERR_…`).
  init(verification code: Int32) {
    switch code {
    case X509_V_ERR_CERT_HAS_EXPIRED: self = .expired
    case X509_V_ERR_CERT_NOT_YET_VALID: self = .notYetValid
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
      X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
      X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, X509_V_ERR_CERT_UNTRUSTED:
      self = .unknownAuthority
    case X509_V_ERR_CERT_REVOKED: self = .revoked
    case X509_V_ERR_CERT_SIGNATURE_FAILURE: self = .badSignature
    case X509_V_ERR_CERT_CHAIN_TOO_LONG, X509_V_ERR_PATH_LENGTH_EXCEEDED: self = .chainTooLong
    case X509_V_ERR_INVALID_CA, X509_V_ERR_KEYUSAGE_NO_CERTSIGN: self = .notAnAuthority
    case X509_V_ERR_INVALID_PURPOSE: self = .missingUsage("this side of a TLS connection")
    case X509_V_ERR_EE_KEY_TOO_SMALL, X509_V_ERR_CA_KEY_TOO_SMALL, X509_V_ERR_CA_MD_TOO_WEAK:
      self = .weakKey(Self.words(code))
    default: self = .refused(Self.words(code))
    }
  }

  /// The verification result that makes OpenSSL send the alert that fits.
  var verificationCode: Int32 {
    switch self {
    case .expired: X509_V_ERR_CERT_HAS_EXPIRED
    case .notYetValid: X509_V_ERR_CERT_NOT_YET_VALID
    case .unknownAuthority, .noTrustedAuthorities: X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
    case .revoked: X509_V_ERR_CERT_REVOKED
    case .badSignature: X509_V_ERR_CERT_SIGNATURE_FAILURE
    case .missingUsage: X509_V_ERR_INVALID_PURPOSE
    case .wrongHost: X509_V_ERR_HOSTNAME_MISMATCH
    default: X509_V_ERR_APPLICATION_VERIFICATION
    }
  }

  private static func words(_ code: Int32) -> String {
    guard let text = X509_verify_cert_error_string(Int(code)) else { return "reason \(code)" }
    return String(cString: text)
  }
}

/// Why a TLS connection failed.
public enum TLSError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The peer's certificate was refused by this side.
  case certificate(CertificateError)
  /// The peer ended the connection with an alert, most often because it refused this side's certificate.
  case alert(String)
  /// The peer broke the protocol, or speaks another one.
  case violation(String)
  /// The connection ended without the peer's close_notify: what was received may be cut.
  case truncated
  case system(SystemError)
  /// This side's settings do not work.
  case configuration(String)

  public var description: String {
    switch self {
    case .certificate(let reason): "TLS peer refused: \(reason)"
    case .alert(let words): "TLS peer sent an alert: \(words)"
    case .violation(let words): "TLS failed: \(words)"
    case .truncated: "TLS connection ended without close_notify"
    case .system(let error): error.description
    case .configuration(let words): "TLS settings: \(words)"
    }
  }
}

/// The calling thread's queue of OpenSSL errors, which has to be empty before each call whose outcome is asked for.
enum OpenSSLErrors {
  /// Empties the queue and returns its first, innermost error; nil when it was empty.
  static func drain() -> (library: Int32, reason: Int32, words: String)? {
    let first = ERR_get_error()
    guard first != 0 else { return nil }
    ERR_clear_error()
    let words = ERR_reason_error_string(first).map { String(cString: $0) } ?? "error \(first)"
    return (ERR_GET_LIB(first), ERR_GET_REASON(first), words)
  }

  static func words() -> String { drain()?.words ?? "no reason given" }
}
