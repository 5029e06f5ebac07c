import COpenSSL
import Glibc
import Primitives

/// A certificate authority: a certificate that may sign, its key, and what peers need to reach a root.
public struct CertificateSigner: Sendable {
  public let certificate: Certificate
  /// Certificates between this one and the root, this one first; empty when this one is a root itself.
  public let intermediates: [Certificate]
  let key: PrivateKey

  /// Uses an operator's authority. `intermediates` starts with `certificate` unless that is a root all peers trust.
  public init(certificate: Certificate, key: PrivateKey, intermediates: [Certificate] = []) throws(CertificateError) {
    guard certificate.isAuthority else { throw .notAnAuthority }
    guard try certificate.publicKey == key.publicKey else { throw .keyMismatch }
    self.certificate = certificate
    self.key = key
    self.intermediates = intermediates
  }

  /// Makes a node's own root: `O=<trust domain>, CN=<node> <number>`, which may sign leaves only (path length 0).
  public static func selfSigned(
    trustDomain: String, node: NodeName, key: PrivateKey = .generate(), now: Int64, lifetime: Int64
  ) throws(CertificateError) -> CertificateSigner {
    let draft = try CertificateDraft(key: key.publicKey)
    try draft.setAuthoritySubject(trustDomain: trustDomain, node: node)
    try draft.setValidity(from: now - TransportLimits.certificateBackdateSeconds, until: now + lifetime)
    try draft.setIssuer(nil)
    try draft.addAuthorityExtensions(issuer: nil)
    return try CertificateSigner(certificate: draft.sign(with: key), key: key)
  }

  /// Certifies a leaf key for an identity its holder has been authenticated as. Times are Unix seconds; `lifetime` is cut
  /// to what is left of this authority's.
  public func issue(
    to publicKey: PublicKey, identity: SPIFFEID, now: Int64, lifetime: Int64
  ) throws(CertificateError) -> Certificate {
    let draft = try draft(for: publicKey, now: now, lifetime: lifetime)
    try draft.add("basicConstraints", "critical,CA:FALSE", issuer: certificate)
    try draft.add("keyUsage", "critical,digitalSignature", issuer: certificate)
    try draft.add("extendedKeyUsage", "serverAuth,clientAuth", issuer: certificate)
    try draft.add("subjectKeyIdentifier", "hash", issuer: certificate)
    try draft.addAuthorityKeyIdentifier(of: certificate)
    // The subject is empty, so the name is critical (RFC 5280 §4.2.1.6). A SPIFFE id holds nothing this syntax reads.
    try draft.add("subjectAltName", "critical,URI:\(identity)", issuer: certificate)
    return try draft.sign(with: key)
  }

  /// Certifies a request's key for the identity its sender was authenticated as. A request for another one is refused.
  public func issue(
    for request: CertificateSigningRequest, identity: SPIFFEID, now: Int64, lifetime: Int64
  ) throws(CertificateError) -> Certificate {
    if let asked = request.requestedIdentity, asked != identity { throw .unexpectedIdentity(asked.description) }
    return try issue(to: request.publicKey, identity: identity, now: now, lifetime: lifetime)
  }

  /// Certifies a node's authority key under this one, as an operator's root does.
  public func issueAuthority(
    to publicKey: PublicKey, trustDomain: String, node: NodeName, now: Int64, lifetime: Int64
  ) throws(CertificateError) -> Certificate {
    let draft = try draft(for: publicKey, now: now, lifetime: lifetime)
    try draft.setAuthoritySubject(trustDomain: trustDomain, node: node)
    try draft.addAuthorityExtensions(issuer: certificate)
    return try draft.sign(with: key)
  }

  func draft(for publicKey: PublicKey, now: Int64, lifetime: Int64) throws(CertificateError) -> CertificateDraft {
    guard now < certificate.notAfter else { throw .expired }
    let draft = try CertificateDraft(key: publicKey)
    let (end, overflow) = now.addingReportingOverflow(max(0, lifetime))
    let until = overflow ? certificate.notAfter : min(end, certificate.notAfter)
    try draft.setValidity(from: now - TransportLimits.certificateBackdateSeconds, until: until)
    try draft.setIssuer(certificate)
    return draft
  }
}

/// A certificate being made.
final class CertificateDraft {
  private let pointer: OpaquePointer

  init(key: PublicKey) throws(CertificateError) {
    guard let pointer = X509_new() else { throw .refused("out of memory") }
    self.pointer = pointer
    let number = BN_bin2bn(secureRandom(count: 16), 16, nil)
    defer { BN_free(number) }
    let version3 = 2
    try check(X509_set_version(pointer, version3))
    try check(BN_to_ASN1_INTEGER(number, X509_get_serialNumber(pointer)) == nil ? 0 : 1)
    try check(X509_set_pubkey(pointer, key.handle.pointer))
  }

  deinit { X509_free(pointer) }

  /// Each component is cut to the 64 bytes X.520 allows; the number keeps the names of one node's keys apart.
  func setAuthoritySubject(trustDomain: String, node: NodeName) throws(CertificateError) {
    let name = X509_get_subject_name(pointer)
    let number = hexString(secureRandom(count: 4))
    try addName(name, "O", String(trustDomain.prefix(64)))
    try addName(name, "CN", "\(node.string.prefix(55)) \(number)")
  }

  private func addName(_ name: OpaquePointer?, _ field: String, _ text: String) throws(CertificateError) {
    let bytes = Array(text.utf8)
    try check(X509_NAME_add_entry_by_txt(name, field, 0x1000, bytes, Int32(bytes.count), -1, 0))
  }

  func setValidity(from: Int64, until: Int64) throws(CertificateError) {
    try check(ASN1_TIME_set(X509_getm_notBefore(pointer), time_t(from)) == nil ? 0 : 1)
    try check(ASN1_TIME_set(X509_getm_notAfter(pointer), time_t(until)) == nil ? 0 : 1)
  }

  /// Nil: itself.
  func setIssuer(_ issuer: Certificate?) throws(CertificateError) {
    try check(X509_set_issuer_name(pointer, X509_get_subject_name(issuer?.handle.pointer ?? pointer)))
  }

  func addAuthorityExtensions(issuer: Certificate?) throws(CertificateError) {
    try add("basicConstraints", "critical,CA:TRUE,pathlen:0", issuer: issuer)
    try add("keyUsage", "critical,keyCertSign,cRLSign", issuer: issuer)
    try add("subjectKeyIdentifier", "hash", issuer: issuer)
    if let issuer { try addAuthorityKeyIdentifier(of: issuer) }
  }

  /// Absent when the issuer, as some operators' roots, does not number its key.
  func addAuthorityKeyIdentifier(of issuer: Certificate) throws(CertificateError) {
    guard X509_get0_subject_key_id(issuer.handle.pointer) != nil else { return }
    try add("authorityKeyIdentifier", "keyid", issuer: issuer)
  }

  /// Adds an extension written as OpenSSL's configuration files write it (x509v3_config(5)).
  func add(_ kind: String, _ value: String, issuer: Certificate?) throws(CertificateError) {
    var context = X509V3_CTX()
    X509V3_set_ctx(&context, issuer?.handle.pointer ?? pointer, pointer, nil, nil, 0)
    let made = X509V3_EXT_conf(nil, &context, kind, value)
    defer { X509_EXTENSION_free(made) }
    try check(X509_add_ext(pointer, made, -1))
  }

  func sign(with key: PrivateKey) throws(CertificateError) -> Certificate {
    try check(X509_sign(pointer, key.handle.pointer, SHA256.algorithm) > 0 ? 1 : 0)
    X509_up_ref(pointer)
    return try Certificate(CertificateHandle(owning: pointer))
  }

  private func check(_ result: Int32) throws(CertificateError) {
    guard result == 1 else { throw .refused(OpenSSLErrors.words()) }
  }
}
