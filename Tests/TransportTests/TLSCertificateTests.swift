import Glibc
import Primitives
import Testing

@testable import Transport

@Suite struct TLSCertificateTests {
  private let workload = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"
  private let now: Int64 = 1_700_000_000

  private func signer(lifetime: Int64 = 1_000_000) throws -> CertificateSigner {
    try .selfSigned(trustDomain: "cluster.local", node: NodeName("n1"), now: now, lifetime: lifetime)
  }

  @Test func `a leaf has the form Istio gives workload certificates`() throws {
    let signer = try signer()
    let key = PrivateKey.generate()
    let leaf = try signer.issue(to: key.publicKey, identity: SPIFFEID(parsing: workload), now: now, lifetime: 86400)
    #expect(leaf.subject.isEmpty)
    #expect(leaf.uris == [Array(workload.utf8)])
    #expect(try leaf.spiffeID().description == workload)
    #expect(leaf.dnsNames.isEmpty && !leaf.hasOtherNames && !leaf.isAuthority)
    #expect(leaf.notBefore == now - 120)
    #expect(leaf.notAfter == now + 86400)
    #expect(leaf.serial.count >= 12)
    #expect(leaf.issuer == signer.certificate.subject)
    #expect(try leaf.publicKey == key.publicKey)
    #expect(leaf.fingerprint == SHA256.hash(leaf.der))
    #expect(try Certificate(der: leaf.der) == leaf)
    #expect(try Certificate.parse(pem: leaf.pem + signer.certificate.pem) == [leaf, signer.certificate])
  }

  @Test func `a node's authority signs leaves only and names its trust domain and node`() throws {
    let signer = try signer()
    #expect(signer.certificate.isAuthority)
    #expect(signer.certificate.subject.contains("O=cluster.local"))
    #expect(signer.certificate.subject.contains("CN=n1 "))
    let under = try signer.issueAuthority(
      to: PrivateKey.generate().publicKey, trustDomain: "cluster.local", node: NodeName("n2"), now: now, lifetime: 1000)
    let bundle = try TrustBundle(trustDomain: "cluster.local", authorities: [signer.certificate], version: 1)
    // Path length 0: an authority under it leads nowhere, even if it signed one.
    let key = PrivateKey.generate()
    let second = try CertificateSigner.selfSigned(
      trustDomain: "cluster.local", node: NodeName("n2"), key: key, now: now, lifetime: 1000)
    let crossed = try signer.issueAuthority(
      to: key.publicKey, trustDomain: "cluster.local", node: NodeName("n2"), now: now, lifetime: 1000)
    let leaf = try CertificateSigner(certificate: crossed, key: second.key)
      .issue(to: PrivateKey.generate().publicKey, identity: SPIFFEID(parsing: workload), now: now, lifetime: 100)
    #expect(under.isAuthority)
    #expect(throws: CertificateError.chainTooLong) { try bundle.verify(chain: [leaf, crossed], at: now, as: .server) }
  }

  @Test func `names longer than X.520 allows do not stop an authority from being made`() throws {
    let long = try CertificateSigner.selfSigned(
      trustDomain: String(repeating: "d", count: 200), node: NodeName(String(repeating: "n", count: 63)), now: now, lifetime: 10
    )
    #expect(long.certificate.isAuthority)
  }

  @Test func `a lifetime is cut to the signer's, and an expired signer signs nothing`() throws {
    let signer = try signer(lifetime: 1000)
    let key = PrivateKey.generate().publicKey
    let id = try SPIFFEID(parsing: workload)
    #expect(try signer.issue(to: key, identity: id, now: now, lifetime: 5000).notAfter == now + 1000)
    #expect(try signer.issue(to: key, identity: id, now: now, lifetime: .max).notAfter == now + 1000)
    #expect(throws: CertificateError.expired) { try signer.issue(to: key, identity: id, now: now + 1000, lifetime: 1) }
  }

  @Test func `a bundle verifies its own at the time given`() throws {
    let (first, second) = (try signer(), try signer())
    let bundle = try TrustBundle(
      trustDomain: "cluster.local", aliases: ["old.local"], authorities: [first.certificate, second.certificate], version: 3)
    let id = try SPIFFEID(parsing: workload)
    let alias = try SPIFFEID(parsing: "spiffe://old.local/ns/a/sa/b")
    for signer in [first, second] {
      let leaf = try signer.issue(to: PrivateKey.generate().publicKey, identity: id, now: now, lifetime: 100)
      #expect(try bundle.verify(chain: [leaf], at: now, as: .client) == id)
      #expect(try bundle.verify(chain: [leaf], at: now - 119, as: .server) == id)
      #expect(throws: CertificateError.notYetValid) { try bundle.verify(chain: [leaf], at: now - 121, as: .server) }
      #expect(throws: CertificateError.expired) { try bundle.verify(chain: [leaf], at: now + 101, as: .server) }
      let other = try signer.issue(to: PrivateKey.generate().publicKey, identity: alias, now: now, lifetime: 100)
      #expect(try bundle.verify(chain: [other], at: now, as: .client) == alias)
    }
    #expect(throws: CertificateError.noCertificate) { try bundle.verify(chain: [], at: now, as: .server) }
    #expect(throws: CertificateError.notAnAuthority) {
      let leaf = try first.issue(to: PrivateKey.generate().publicKey, identity: id, now: now, lifetime: 100)
      return try TrustBundle(trustDomain: "cluster.local", authorities: [leaf], version: 1)
    }
  }

  @Test func `an authority of some trust domains names nobody of another`() throws {
    let (own, theirs) = (try signer(), try signer())
    let ids = try ["cluster.local", "old.local", "far.local"].map { try SPIFFEID(parsing: "spiffe://\($0)/ns/a/sa/b") }
    func verified(_ signer: CertificateSigner, _ domains: Set<String>) throws -> [Bool] {
      let bundle = try TrustBundle(
        trustDomain: "cluster.local", aliases: ["old.local"], authorities: [own.certificate],
        bound: [TrustBundle.BoundAuthority(theirs.certificate, trustDomains: domains)], version: 3)
      return try ids.map { id in
        let leaf = try signer.issue(to: PrivateKey.generate().publicKey, identity: id, now: now, lifetime: 100)
        return (try? bundle.verify(chain: [leaf], at: now, as: .client)) == id
      }
    }
    for domains: Set<String> in [[], ["old.local"], ["cluster.local", "far.local"]] {
      #expect(try verified(own, domains) == [true, true, false])
      #expect(try verified(theirs, domains) == [domains.contains("cluster.local"), domains.contains("old.local"), false])
    }
  }

  @Test func `an operator's root signs nodes' authorities, and the root alone verifies their leaves`() throws {
    let rootKey = PrivateKey.generate()
    let draft = try CertificateDraft(key: rootKey.publicKey)
    try draft.setAuthoritySubject(trustDomain: "cluster.local", node: NodeName("root"))
    try draft.setValidity(from: now - 10, until: now + 10000)
    try draft.setIssuer(nil)
    try draft.add("basicConstraints", "critical,CA:TRUE", issuer: nil)
    try draft.add("keyUsage", "critical,keyCertSign", issuer: nil)
    try draft.add("subjectKeyIdentifier", "hash", issuer: nil)
    let root = try CertificateSigner(certificate: draft.sign(with: rootKey), key: rootKey)
    let nodeKey = PrivateKey.generate()
    let nodeCertificate = try root.issueAuthority(
      to: nodeKey.publicKey, trustDomain: "cluster.local", node: NodeName("n1"), now: now, lifetime: 5000)
    let node = try CertificateSigner(certificate: nodeCertificate, key: nodeKey, intermediates: [nodeCertificate])
    let leaf = try node.issue(
      to: PrivateKey.generate().publicKey, identity: SPIFFEID(parsing: workload), now: now, lifetime: 100)
    let byRoot = try TrustBundle(trustDomain: "cluster.local", authorities: [root.certificate], version: 1)
    #expect(try byRoot.verify(chain: [leaf] + node.intermediates, at: now, as: .server).description == workload)
    #expect(throws: CertificateError.unknownAuthority) { try byRoot.verify(chain: [leaf], at: now, as: .server) }
    let byNode = try TrustBundle(trustDomain: "cluster.local", authorities: [nodeCertificate], version: 1)
    #expect(try byNode.verify(chain: [leaf], at: now, as: .server).description == workload)
  }

  @Test func `a request proves possession, and what it asks for gives no right to it`() throws {
    let signer = try signer()
    let key = PrivateKey.generate()
    let id = try SPIFFEID(parsing: workload)
    let other = try SPIFFEID(parsing: "spiffe://cluster.local/ns/default/sa/admin")
    let plain = try CertificateSigningRequest.make(key: key)
    #expect(plain.requestedIdentity == nil && plain.publicKey == key.publicKey)
    #expect(try signer.issue(for: plain, identity: id, now: now, lifetime: 60).spiffeID() == id)
    let asking = try CertificateSigningRequest.make(key: key, identity: other)
    #expect(asking.requestedIdentity == other)
    #expect(throws: CertificateError.unexpectedIdentity(other.description)) {
      try signer.issue(for: asking, identity: id, now: now, lifetime: 60)
    }
    #expect(try signer.issue(for: asking, identity: other, now: now, lifetime: 60).spiffeID() == other)
    var forged = asking.der
    forged[forged.count - 3] ^= 1
    #expect(throws: CertificateError.self) { try CertificateSigningRequest(der: forged) }
    #expect(throws: CertificateError.malformed("the certificate request")) {
      try CertificateSigningRequest(der: asking.der + [0])
    }
  }

  @Test func `random and cut bytes are refused, never more`() throws {
    var random = SeededGenerator(seed: 7)
    let leaf = try signer().issue(
      to: PrivateKey.generate().publicKey, identity: SPIFFEID(parsing: workload), now: now, lifetime: 60)
    let request = try CertificateSigningRequest.make(key: .generate(), identity: SPIFFEID(parsing: workload)).der
    for _ in 0..<300 {
      for whole in [leaf.der, request] {
        var bytes = Array(whole.prefix(random.index(below: whole.count + 1)))
        if !bytes.isEmpty, random.chance(0.7) {
          bytes[random.index(below: bytes.count)] = UInt8(truncatingIfNeeded: random.next())
        }
        _ = try? Certificate(der: bytes)
        _ = try? CertificateSigningRequest(der: bytes)
        _ = try? PublicKey(der: bytes)
        _ = try? Certificate.parse(pem: bytes)
      }
    }
    #expect(throws: CertificateError.self) { try Certificate(der: leaf.der + [0]) }
    #expect(throws: CertificateError.self) { try Certificate(der: [UInt8](repeating: 0x30, count: 1 << 20)) }
    #expect(throws: CertificateError.self) { try Certificate.parse(pem: leaf.pem + leaf.pem, max: 1) }
  }

  @Test func `a signature is valid for its message and key only`() throws {
    let key = PrivateKey.generate()
    let message = Array("a registry row".utf8)
    let signature = key.sign(message)
    let publicKey = try PublicKey(der: key.publicKey.der)
    #expect(publicKey == key.publicKey)
    #expect(publicKey.isValid(signature, for: message))
    #expect(!publicKey.isValid(signature, for: message + [0]))
    #expect(!publicKey.isValid([], for: message))
    #expect(!publicKey.isValid(Array(signature.dropLast()), for: message))
    #expect(!PrivateKey.generate().publicKey.isValid(signature, for: message))
  }

  @Test func `a stored key is private, comes back whole, and is never overwritten`() throws {
    let path = "/tmp/mesh-\(getpid())-\(hexString(secureRandom(count: 4))).pem"
    defer { unlink(path) }
    let key = PrivateKey.generate()
    try key.store(at: path)
    var status = stat()
    #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o600)
    #expect(try PrivateKey(contentsOf: path).publicKey == key.publicKey)
    let error = #expect(throws: SystemError.self) { try PrivateKey.generate().store(at: path) }
    #expect(error?.code == EEXIST)
    #expect(try PrivateKey(contentsOf: path).publicKey == key.publicKey)
  }

  @Test func `a key that is not the certificate's is refused`() throws {
    let signer = try signer()
    let key = PrivateKey.generate()
    let leaf = try signer.issue(to: key.publicKey, identity: SPIFFEID(parsing: workload), now: now, lifetime: 60)
    #expect(throws: CertificateError.keyMismatch) { try TLSIdentity(chain: [leaf], key: .generate()) }
    #expect(throws: CertificateError.keyMismatch) { try CertificateSigner(certificate: signer.certificate, key: .generate()) }
    #expect(throws: CertificateError.notAnAuthority) { try CertificateSigner(certificate: leaf, key: key) }
  }
}
