import COpenSSL
import Primitives

/// Which side of a connection a certificate is checked for.
public enum PeerRole: Sendable {
  case server
  case client
}

/// The authorities that are trusted to name members of one trust domain, at one version.
public struct TrustBundle: Sendable, Hashable {
  public let trustDomain: String
  /// Other trust domains whose identities these authorities may sign (Istio's `trustDomainAliases`).
  public let aliases: Set<String>
  public let authorities: [Certificate]
  /// Authorities that name members of some trust domains only (Istio, `caCertificates[].trustDomains`).
  public let bound: [BoundAuthority]
  public let version: UInt64
  private let store: TrustStore
  /// For each trust domain that an authority is bound to: that one and those that are not.
  private let stores: [String: TrustStore]

  public struct BoundAuthority: Hashable, Sendable {
    public let certificate: Certificate
    public let trustDomains: Set<String>

    public init(_ certificate: Certificate, trustDomains: Set<String>) {
      self.certificate = certificate
      self.trustDomains = trustDomains
    }
  }

  /// `authorities` may be empty: then every peer is refused. Certificates that are not authorities are refused here.
  public init(
    trustDomain: String, aliases: Set<String> = [], authorities: [Certificate], bound: [BoundAuthority] = [], version: UInt64
  ) throws(CertificateError) {
    guard authorities.count + bound.count <= TransportLimits.trustBundleCertificatesMax else {
      throw .malformed("a trust bundle of more than \(TransportLimits.trustBundleCertificatesMax) certificates")
    }
    guard authorities.allSatisfy(\.isAuthority), bound.allSatisfy(\.certificate.isAuthority) else { throw .notAnAuthority }
    self.trustDomain = trustDomain
    self.aliases = aliases
    self.authorities = authorities
    self.version = version
    self.bound = bound
    store = try TrustStore(authorities)
    var stores: [String: TrustStore] = [:]
    for domain in aliases.union([trustDomain]) {
      let own = bound.filter { $0.trustDomains.contains(domain) }.map(\.certificate)
      if !own.isEmpty { stores[domain] = try TrustStore(authorities + own) }
    }
    self.stores = stores
  }

  /// Checks a peer's chain, leaf first, and returns whom it names.
  ///
  /// The chain must lead to one of the authorities and be valid at `unixSeconds`; the leaf must not be an authority, be
  /// meant for `role`, and hold exactly one SPIFFE id, of this trust domain or an alias.
  public func verify(
    chain: [Certificate], at unixSeconds: Int64, as role: PeerRole
  ) throws(CertificateError) -> SPIFFEID {
    guard let leaf = chain.first else { throw .noCertificate }
    guard !authorities.isEmpty || !stores.isEmpty else { throw .noTrustedAuthorities }
    guard chain.count <= TransportLimits.chainCertificatesMax else { throw .chainTooLong }
    try store(for: leaf).verify(chain: chain, at: unixSeconds)
    try leaf.checkIsLeaf(for: role)
    let identity = try leaf.spiffeID()
    guard identity.trustDomain == trustDomain || aliases.contains(identity.trustDomain) else {
      throw .foreignTrustDomain(identity.trustDomain)
    }
    return identity
  }

  /// Whom the leaf claims to be decides which authorities count; what they say of it is what is believed.
  private func store(for leaf: Certificate) throws(CertificateError) -> TrustStore {
    if stores.isEmpty { return store }
    return stores[try leaf.spiffeID().trustDomain] ?? store
  }

  public static func == (a: TrustBundle, b: TrustBundle) -> Bool {
    a.version == b.version && a.trustDomain == b.trustDomain && a.aliases == b.aliases && a.authorities == b.authorities
      && a.bound == b.bound
  }
  public func hash(into hasher: inout Hasher) {
    hasher.combine(trustDomain)
    hasher.combine(version)
    hasher.combine(authorities)
  }
}

extension Certificate {
  /// Refuses an authority, and a leaf whose usages do not fit (RFC 5280 §4.2.1.3, §4.2.1.12; X509-SVID §4).
  func checkIsLeaf(for role: PeerRole) throws(CertificateError) {
    guard !isAuthority else { throw .authorityAsLeaf }
    // All bits are set when an extension is absent; here its absence is a refusal.
    let usage = X509_get_key_usage(handle.pointer)
    guard usage != .max, usage & UInt32(KU_DIGITAL_SIGNATURE) != 0 else { throw .missingUsage("digital signatures") }
    guard usage & UInt32(KU_KEY_CERT_SIGN | KU_CRL_SIGN) == 0 else { throw .authorityAsLeaf }
    let extended = X509_get_extended_key_usage(handle.pointer)
    let (needed, words) = role == .server ? (XKU_SSL_SERVER, "TLS servers") : (XKU_SSL_CLIENT, "TLS clients")
    guard extended != .max, extended & UInt32(needed) != 0 else { throw .missingUsage(words) }
  }
}

/// Owns an OpenSSL store of authorities. It is only read once made, and OpenSSL guards it with a lock.
final class TrustStore: @unchecked Sendable {
  private let pointer: OpaquePointer

  init(_ authorities: [Certificate]) throws(CertificateError) {
    guard let store = X509_STORE_new() else { throw .refused("out of memory") }
    pointer = store
    for certificate in authorities where X509_STORE_add_cert(store, certificate.handle.pointer) != 1 {
      throw .refused(OpenSSLErrors.words())
    }
  }

  deinit { X509_STORE_free(pointer) }

  func verify(chain: [Certificate], at unixSeconds: Int64) throws(CertificateError) {
    guard let leaf = chain.first, let context = X509_STORE_CTX_new(), let others = cossl_certificates() else {
      throw .noCertificate
    }
    defer {
      X509_STORE_CTX_free(context)
      cossl_certificates_free(others)
      ERR_clear_error()
    }
    for certificate in chain.dropFirst() { _ = cossl_certificates_push(others, certificate.handle.pointer) }
    guard X509_STORE_CTX_init(context, pointer, leaf.handle.pointer, others) == 1,
      let parameters = X509_STORE_CTX_get0_param(context)
    else { throw .refused(OpenSSLErrors.words()) }
    X509_VERIFY_PARAM_set_time(parameters, time_t(unixSeconds))
    X509_VERIFY_PARAM_set_depth(parameters, Int32(TransportLimits.chainCertificatesMax))
    X509_VERIFY_PARAM_set_auth_level(parameters, 2)  // 112 bits: no SHA-1, no RSA below 2048
    // An authority of the bundle is an anchor even when a root has signed it.
    X509_VERIFY_PARAM_set_flags(parameters, UInt(X509_V_FLAG_PARTIAL_CHAIN))
    guard X509_verify_cert(context) == 1 else {
      throw CertificateError(verification: X509_STORE_CTX_get_error(context))
    }
  }
}
