import COpenSSL
import Primitives

/// Whom a TLS side says it is: certificates, leaf first, and the leaf's key.
public struct TLSIdentity: Sendable {
  /// The leaf and the intermediates a peer needs to reach a root it trusts.
  public let chain: [Certificate]
  public let key: PrivateKey

  /// Refuses an empty chain, one longer than peers accept, and a key that is not the leaf's.
  public init(chain: [Certificate], key: PrivateKey) throws(CertificateError) {
    guard let leaf = chain.first else { throw .noCertificate }
    guard chain.count <= TransportLimits.chainCertificatesMax else { throw .chainTooLong }
    guard try leaf.publicKey == key.publicKey else { throw .keyMismatch }
    self.chain = chain
    self.key = key
  }
}

/// How a TLS side decides whether the peer is to be trusted.
public enum TLSTrust: Sendable {
  /// A server that asks for no certificate; a client that trusts anybody (`insecureSkipVerify`).
  case nobody
  /// A mesh member: a SPIFFE id under the bundle. A server refuses clients without a certificate when `required`.
  case members(TrustBundle, required: Bool = true)
  /// Asks for a certificate, reports what verification says of it, and lets the connection be made whatever it says.
  ///
  /// For cluster links, where a joining node proves itself inside the connection before anything else is believed.
  case reported(TrustBundle)
  /// The system's authorities, as a client of servers outside the mesh (`SSL_CERT_FILE` is honoured).
  case system
  /// An operator's authorities, for servers outside the mesh.
  case authorities([Certificate])
  /// A server's clients outside the mesh.
  case clients(ClientRules)
}

/// Which peer a connection is for, beyond being trusted.
public enum ExpectedPeer: Sendable {
  /// Whoever is trusted. For servers, and for `TLSTrust.nobody`.
  case any
  /// One of these members.
  case members(Set<SPIFFEID>)
  /// A server whose certificate holds one of these: DNS names (with wildcards as in RFC 6125), IP addresses, or URIs.
  case names([String])
}

/// The lowest or highest TLS version a side accepts.
public enum TLSVersion: Sendable {
  case tls12
  case tls13
}

/// What few contexts need.
public struct TLSOptions: Sendable {
  public var maximum: TLSVersion
  /// OpenSSL's names for TLS 1.2; those it does not know are left out, and without any the default applies.
  public var cipherSuites: [String]
  /// OpenSSL's names of groups for key exchange, best first; those it does not know are left out, and without any the default
  /// applies.
  public var curves: [String] = []
  /// With any, every certificate below a root needs a list of its authority's that is current and does not name it (Envoy,
  /// `crl`). For `system`, `authorities` and `clients`.
  public var revocations: [RevocationList] = []
  /// Certificates with keys of another kind than the first's.
  public var otherIdentities: [TLSIdentity] = []
  /// Peers may resume their sessions with this very context, and with no other. A server that chooses another context by
  /// name has to say so too.
  public var resumesSessions = false
  /// Seal a server's tickets, in place of keys of its own: they outlive the context that connections begin with.
  public var ticketKeys: TicketKeys?

  public init(maximum: TLSVersion = .tls13, cipherSuites: [String] = []) {
    self.maximum = maximum
    self.cipherSuites = cipherSuites
  }
}

/// The immutable settings of many TLS connections: identity, trust, protocols. Make a new one when a certificate, a bundle
/// or a policy changes; connections that exist keep the one they began with. Nothing is ever resumed across contexts.
///
/// Unchecked because OpenSSL's context is only read after `init`, which OpenSSL allows from several threads.
public final class TLSContext: @unchecked Sendable {
  public let role: PeerRole
  public let identity: TLSIdentity?
  public let trust: TLSTrust
  /// Application protocols in order of preference (RFC 7301); a peer that offers others only is refused by a server.
  public let protocols: [[UInt8]]
  let minimum: TLSVersion
  let options: TLSOptions
  /// Of servers this client has talked to.
  let sessions = SessionCache()
  /// For key exchange, best first.
  private(set) var groups = "X25519:P-256:P-384"
  /// Of this server; nil where nothing is resumed.
  let ticketKeys: TicketKeys?
  /// Tells this context's sessions from all others'.
  let sessionContext = secureRandom(count: 32)
  /// Chooses by the server name asked for, lower-cased and empty when there is none; nil refuses the handshake.
  let selectByName: (@Sendable ([UInt8]) -> TLSContext?)?
  let pointer: OpaquePointer

  /// Settings of connections this process accepts. `identity` may be absent only when `selectByName` chooses another context.
  public static func server(
    identity: TLSIdentity?, trust: TLSTrust, protocols: [String], minimum: TLSVersion = .tls13,
    options: TLSOptions = TLSOptions(), selectByName: (@Sendable ([UInt8]) -> TLSContext?)? = nil
  ) throws(TLSError) -> TLSContext {
    guard identity != nil || selectByName != nil else { throw .configuration("a server needs a certificate") }
    if case .system = trust { throw .configuration("clients are not verified with the system's authorities") }
    return try TLSContext(.server, identity, trust, protocols, minimum, options, selectByName)
  }

  /// Settings of connections this process makes.
  public static func client(
    identity: TLSIdentity?, trust: TLSTrust, protocols: [String], minimum: TLSVersion = .tls13,
    options: TLSOptions = TLSOptions()
  ) throws(TLSError) -> TLSContext {
    if case .clients = trust { throw .configuration("a client verifies servers") }
    return try TLSContext(.client, identity, trust, protocols, minimum, options, nil)
  }

  private init(
    _ role: PeerRole, _ identity: TLSIdentity?, _ trust: TLSTrust, _ protocols: [String], _ minimum: TLSVersion,
    _ options: TLSOptions, _ selectByName: (@Sendable ([UInt8]) -> TLSContext?)?
  ) throws(TLSError) {
    guard let made = SSL_CTX_new(role == .server ? TLS_server_method() : TLS_client_method()) else {
      throw .configuration(OpenSSLErrors.words())
    }
    pointer = made
    self.role = role
    self.identity = identity
    self.trust = trust
    self.protocols = protocols.map { Array($0.utf8) }
    self.minimum = minimum
    self.options = options
    ticketKeys = role == .server && options.resumesSessions ? options.ticketKeys ?? TicketKeys() : nil
    self.selectByName = selectByName
    cossl_harden(made)
    try setProtocol()
    try setIdentity()
    try setTrust()
    try setApplicationProtocols()
    setResumption()
  }

  deinit { SSL_CTX_free(pointer) }

  private func check(_ done: Bool) throws(TLSError) {
    guard done else { throw .configuration(OpenSSLErrors.words()) }
  }

  /// AES-128 first: as safe here, and cheaper. The older version's list is Istio's (istio.io, "TLS configuration").
  private func setProtocol() throws(TLSError) {
    let old =
      "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
    let new = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
    try check(cossl_set_min_version(pointer, minimum.number) == 1)
    try check(cossl_set_max_version(pointer, options.maximum.number) == 1)
    if options.cipherSuites.isEmpty || SSL_CTX_set_cipher_list(pointer, options.cipherSuites.joined(separator: ":")) != 1 {
      ERR_clear_error()
      try check(SSL_CTX_set_cipher_list(pointer, old) == 1)
    }
    try check(SSL_CTX_set_ciphersuites(pointer, new) == 1)
    try setGroups()
    cossl_set_peer_chain_bytes(pointer, TransportLimits.peerChainBytesMax)
  }

  private func setGroups() throws(TLSError) {
    let known = options.curves.filter { cossl_set_groups(pointer, $0) == 1 }
    ERR_clear_error()
    if !known.isEmpty { groups = known.joined(separator: ":") }
    try check(cossl_set_groups(pointer, groups) == 1)
  }

  private func setIdentity() throws(TLSError) {
    for identity in [identity].compactMap({ $0 }) + options.otherIdentities {
      guard let leaf = identity.chain.first else { continue }
      try check(SSL_CTX_use_certificate(pointer, leaf.handle.pointer) == 1)
      try check(SSL_CTX_use_PrivateKey(pointer, identity.key.handle.pointer) == 1)
      for certificate in identity.chain.dropFirst() {
        try check(cossl_add_chain_certificate(pointer, certificate.handle.pointer) == 1)
      }
    }
  }

  private func setTrust() throws(TLSError) {
    switch trust {
    case .nobody, .members, .reported: break
    case .system: try check(SSL_CTX_set_default_verify_paths(pointer) == 1)
    case .authorities(let certificates): try add(certificates)
    case .clients(let rules): try add(rules.authorities)
    }
    try addRevocations()
    SSL_CTX_set_verify(pointer, verifyMode, nil)
    SSL_CTX_set_cert_verify_callback(pointer, PeerVerification.callback, nil)
  }

  private func add(_ authorities: [Certificate]) throws(TLSError) {
    for certificate in authorities {
      try check(X509_STORE_add_cert(SSL_CTX_get_cert_store(pointer), certificate.handle.pointer) == 1)
    }
  }

  private func addRevocations() throws(TLSError) {
    guard !options.revocations.isEmpty, let store = SSL_CTX_get_cert_store(pointer) else { return }
    for list in options.revocations { try check(X509_STORE_add_crl(store, list.handle.pointer) == 1) }
    try check(X509_STORE_set_flags(store, UInt(X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL)) == 1)
  }

  var verifyMode: Int32 {
    switch trust {
    case .nobody: SSL_VERIFY_NONE
    case .reported, .members(_, required: false): SSL_VERIFY_PEER
    case .clients(let rules) where !rules.isRequired: SSL_VERIFY_PEER
    case .members, .system, .authorities, .clients: SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
    }
  }

  private func setApplicationProtocols() throws(TLSError) {
    guard protocols.allSatisfy({ (1...255).contains($0.count) }) else {
      throw .configuration("the name of an application protocol has 1 to 255 bytes")
    }
    if role == .server {
      SSL_CTX_set_client_hello_cb(pointer, ServerNameSelection.callback, nil)
      if !protocols.isEmpty { SSL_CTX_set_alpn_select_cb(pointer, ApplicationProtocolSelection.callback, nil) }
    } else if !protocols.isEmpty {
      let wire = protocols.flatMap { [UInt8(truncatingIfNeeded: $0.count)] + $0 }
      // Returns 0 on success, unlike its kin.
      try check(SSL_CTX_set_alpn_protos(pointer, wire, UInt32(wire.count)) == 0)
    }
  }
}

extension TLSVersion {
  var number: Int32 { self == .tls13 ? TLS1_3_VERSION : TLS1_2_VERSION }
}
