import Primitives
import Testing

@testable import Transport

/// Names in certificates (RFC 5280 4.2.1.6 and 4.2.1.10, RFC 6125 6.4.3, X509-SVID 2): bytes, one identity, no wildcard in it.
@Suite("Checklist F: names in certificates") struct ChecklistTests {
  private static let id = "spiffe://cluster.local/ns/a/sa/b"

  /// A URI name given as its bytes: GeneralName [6] in a sequence.
  private static func uri(_ bytes: [UInt8]) -> String {
    let name = [0x86, UInt8(bytes.count)] + bytes
    return "DER:" + ([0x30, UInt8(name.count)] + name).map { hexString([$0]) }.joined(separator: ":")
  }

  private func verify(_ identity: TLSIdentity, _ bundle: TrustBundle, as role: PeerRole = .client) throws(CertificateError)
    -> SPIFFEID
  { try bundle.verify(chain: identity.chain, at: TestAuthority.now, as: role) }

  @Test func `F2: NUL, line ends, wildcards and empty or dotted segments make no identity`() throws {
    let authority = try TestAuthority()
    #expect(try verify(authority.named(Self.uri(Array(Self.id.utf8))), authority.bundle).description == Self.id)
    for text in [
      Self.id + "\0", Self.id + "\0.evil", Self.id + "\n", "\r" + Self.id, Self.id + "/", Self.id + "#x", Self.id + "%62",
      "spiffe://cluster.local/ns/a/sa/*", "spiffe://*/ns/a/sa/b", "spiffe://cluster.local/ns/./sa/b",
      "spiffe:/cluster.local/ns/a/sa/b", "spiffe://cluster.local./ns/a/sa/b", "spiffe://cluster.local/ns/a/sa/\u{E9}",
      " " + Self.id, "",
    ] {
      #expect(throws: CertificateError.self, "\(text.debugDescription)") {
        try verify(authority.named(Self.uri(Array(text.utf8))), authority.bundle)
      }
    }
  }

  @Test func `F3: a wildcard stands for one whole left-most label`() throws {
    let authority = try TestAuthority()
    for (pattern, name, fits) in [
      ("*.b.example", "a.b.example", true), ("*.b.example", "b.example", false), ("*.b.example", "x.a.b.example", false),
      ("a*.example", "ab.example", false), ("*.*.example", "a.b.example", false), ("a.*.example", "a.b.example", false),
      ("a.example", "A.EXAMPLE", true), ("a.example", "a.example.evil", false),
    ] {
      let server = try TLSContext.server(
        identity: authority.crafted([
          ("keyUsage", "critical,digitalSignature"), ("extendedKeyUsage", "serverAuth"), ("subjectAltName", "DNS:\(pattern)"),
        ]), trust: .nobody, protocols: ["h2"])
      let client = try TLSContext.client(identity: nil, trust: .authorities([authority.signer.certificate]), protocols: ["h2"])
      let pair = try TLSPair(client: client, server: server, expecting: .names([name]))
      let result = pair.handshake()
      if fits {
        #expect(result.client == .done, "\(pattern) \(name)")
      } else {
        #expect(result.client != .done, "\(pattern) \(name)")
      }
    }
  }

  @Test func `F4: a certificate counts only for the side of a connection that it is for`() throws {
    let authority = try TestAuthority()
    let usage = ("keyUsage", "critical,digitalSignature")
    let name = ("subjectAltName", "URI:\(Self.id)")
    let forClients = try authority.crafted([usage, ("extendedKeyUsage", "clientAuth"), name])
    let forServers = try authority.crafted([usage, ("extendedKeyUsage", "serverAuth"), name])
    #expect(try verify(forClients, authority.bundle, as: .client).description == Self.id)
    #expect(try verify(forServers, authority.bundle, as: .server).description == Self.id)
    #expect(throws: CertificateError.self) { try verify(forClients, authority.bundle, as: .server) }
    #expect(throws: CertificateError.self) { try verify(forServers, authority.bundle, as: .client) }
  }

  @Test(arguments: [
    ("permitted;URI:cluster.local", true), ("permitted;URI:other.local", false), ("excluded;URI:cluster.local", false),
  ]) func `F5: an authority names only whom its own certificate lets it name`(constraints: String, isAllowed: Bool) throws {
    let key = PrivateKey.generate()
    let draft = try CertificateDraft(key: key.publicKey)
    try draft.setAuthoritySubject(trustDomain: "cluster.local", node: NodeName("n1"))
    try draft.setValidity(from: TestAuthority.now - 10, until: TestAuthority.now + TestAuthority.day)
    try draft.setIssuer(nil)
    for (name, value) in [
      ("basicConstraints", "critical,CA:TRUE"), ("keyUsage", "critical,keyCertSign"), ("subjectKeyIdentifier", "hash"),
      ("nameConstraints", "critical,\(constraints)"),
    ] { try draft.add(name, value, issuer: nil) }
    let signer = try CertificateSigner(certificate: draft.sign(with: key), key: key)
    let leaf = try signer.issue(
      to: PrivateKey.generate().publicKey, identity: SPIFFEID(parsing: Self.id), now: TestAuthority.now, lifetime: 100)
    let bundle = try TrustBundle(trustDomain: "cluster.local", authorities: [signer.certificate], version: 1)
    if isAllowed {
      #expect(try bundle.verify(chain: [leaf], at: TestAuthority.now, as: .client).description == Self.id)
    } else {
      #expect(throws: CertificateError.self) { try bundle.verify(chain: [leaf], at: TestAuthority.now, as: .client) }
    }
  }
}
