import Glibc
import Primitives
import Testing

@testable import Transport

private let productpage = "spiffe://cluster.local/ns/default/sa/bookinfo-productpage"
private let reviews = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"

@Suite struct TLSSessionTests {
  private func member(_ role: PeerRole, _ authority: TestAuthority, _ identity: TLSIdentity) throws -> TLSContext {
    role == .server
      ? try .server(identity: identity, trust: .members(authority.bundle), protocols: ["h2"])
      : try .client(identity: identity, trust: .members(authority.bundle), protocols: ["h2"])
  }

  private func pair(_ authority: TestAuthority, expecting: ExpectedPeer = .any) throws -> TLSPair {
    try TLSPair(
      client: member(.client, authority, authority.identity(productpage)),
      server: member(.server, authority, authority.identity(reviews)), expecting: expecting)
  }

  @Test func `members authenticate each other over TLS 1.3 and agree on the protocol`() throws {
    let pair = try pair(TestAuthority(), expecting: .members([SPIFFEID(parsing: reviews)]))
    try pair.connect()
    #expect(try pair.client.peerIdentity().description == reviews)
    #expect(try pair.server.peerIdentity().description == productpage)
    #expect(pair.client.version == "TLSv1.3")
    #expect(pair.client.applicationProtocol == "h2" && pair.server.applicationProtocol == "h2")
    #expect(pair.server.peerChain.count == 1)
  }

  @Test func `a large transfer passes through full sockets and moving buffers, both ways`() throws {
    let pair = try pair(TestAuthority())
    try pair.connect()
    for (sender, receiver) in [(pair.client, pair.server), (pair.server, pair.client)] {
      let payload = secureRandom(count: 1 << 20)
      var sent = 0
      var blocked = 0
      var received: [UInt8] = []
      while received.count < payload.count {
        // A copy each time, so the buffer's address changes between a refused write and its repetition.
        let result = Array(payload[sent...]).withUnsafeBytes { sender.write($0) }
        if case .bytes(let count) = result { sent += count } else { blocked += 1 }
        guard sent == payload.count || result == .wouldBlock else { continue }
        var buffer = [UInt8](repeating: 0, count: 7919)
        while case .bytes(let count) = buffer.withUnsafeMutableBytes({ receiver.read(into: $0) }) {
          received += buffer[..<count]
        }
      }
      #expect(received == payload)
      #expect(blocked > 0)
    }
  }

  @Test func `a handshake and data pass one byte at a time`() throws {
    let authority = try TestAuthority()
    let (near, relayNear) = try Socket.pair()
    let (far, relayFar) = try Socket.pair()
    defer { for descriptor in [near, relayNear, far, relayFar] { close(descriptor) } }
    let client = try TLSSession(member(.client, authority, authority.identity(productpage)), descriptor: near)
    let server = try TLSSession(member(.server, authority, authority.identity(reviews)), descriptor: far)
    func relayOne() -> Bool {
      var byte: UInt8 = 0
      var moved = false
      for (from, to) in [(relayNear, relayFar), (relayFar, relayNear)] {
        guard withUnsafeMutableBytes(of: &byte, { Socket.read(from, into: $0) }) == .bytes(1) else { continue }
        moved = withUnsafeBytes(of: byte) { Socket.write(to, $0) } == .bytes(1)
      }
      return moved
    }
    var steps = 0
    while (client.handshake(), server.handshake()) != (.done, .done), steps < 20_000 {
      steps += 1
      _ = relayOne()
    }
    #expect(steps > 1000 && steps < 20_000)
    #expect(client.send("hello") == .bytes(5))
    var reads = 0
    while server.receive(5) == .wouldBlock, relayOne() { reads += 1 }
    // One record: nothing is delivered before its last byte, the tag's, is there.
    #expect(reads == 5 + 5 + 1 + 16)
    #expect(try server.peerIdentity().description == productpage)
  }

  @Test func `an orderly end is told from a cut connection`() throws {
    let orderly = try pair(TestAuthority())
    try orderly.connect()
    #expect(orderly.client.shutdown())
    #expect(orderly.server.receive(1) == .endOfStream)
    let cut = try pair(TestAuthority())
    try cut.connect()
    cut.cutClient()
    #expect(cut.server.receive(1) == .failed(ECONNRESET))
    #expect(cut.server.failure == .truncated)
  }

  @Test func `both ends export the same keys, and no other connection's`() throws {
    let (first, second) = (try pair(TestAuthority()), try pair(TestAuthority()))
    #expect(throws: TLSError.self) { try first.client.exporter() }
    try first.connect()
    try second.connect()
    #expect(try first.client.exporter() == first.server.exporter())
    #expect(try first.client.exporter() != second.client.exporter())
    #expect(try first.client.exporter(label: "EXPORTER-other", length: 32) != first.client.exporter())
    #expect(try first.client.exporter().count == 32)
  }

  @Test func `a server refuses a client for the reason there is`() throws {
    let authority = try TestAuthority()
    let past = TestAuthority.now - 10 * TestAuthority.day
    let usage = ("keyUsage", "critical,digitalSignature")
    let both = ("extendedKeyUsage", "serverAuth,clientAuth")
    let name = ("subjectAltName", "URI:\(productpage)")
    let ca = try TLSIdentity(chain: [authority.signer.certificate], key: authority.signer.key)
    let cases: [(TLSIdentity?, CertificateError)] = [
      (nil, .noCertificate),
      (try authority.identity(productpage, now: past, lifetime: TestAuthority.day), .expired),
      (try authority.identity(productpage, now: TestAuthority.now + 3600), .notYetValid),
      (try TestAuthority("n2").identity(productpage), .unknownAuthority),
      (try authority.identity("spiffe://other.domain/ns/a/sa/b"), .foreignTrustDomain("other.domain")),
      (try authority.named(nil), .noIdentity),
      (try authority.named("DNS:reviews.default"), .noIdentity),
      (try authority.named("URI:\(productpage),URI:\(reviews)"), .severalIdentities(2)),
      (try authority.named("URI:\(productpage),IP:10.0.0.1"), .unsupportedName),
      (try authority.named("URI:\(productpage),email:a@b.c"), .unsupportedName),
      (ca, .authorityAsLeaf),
      (try authority.crafted([both, name]), .missingUsage("digital signatures")),
      (try authority.crafted([usage, name]), .missingUsage("TLS clients")),
      (
        try authority.crafted([usage, name, ("extendedKeyUsage", "clientAuth"), ("basicConstraints", "CA:TRUE")]),
        .authorityAsLeaf
      ),
    ]
    for (identity, reason) in cases {
      let client = try TLSContext.client(identity: identity, trust: .members(authority.bundle), protocols: ["h2"])
      let pair = try TLSPair(client: client, server: member(.server, authority, authority.identity(reviews)))
      let results = pair.handshake()
      #expect(results.server == .failed(.certificate(reason)))
      if case .failed(.alert) = results.client {} else { Issue.record("\(reason): the client saw \(results.client)") }
      #expect(throws: TLSError.self) { try pair.server.peerIdentity() }
    }
  }

  @Test(arguments: [
    "SPIFFE://cluster.local/ns/a/sa/b", "spiffe://Cluster.local/ns/a/sa/b", "spiffe://cluster.local:80/ns/a/sa/b",
    "spiffe://u@cluster.local/ns/a/sa/b", "spiffe://cluster.local/ns//sa/b", "spiffe://cluster.local/ns/../sa/b",
    "spiffe://cluster.local/ns/a/sa/b?q", "spiffe://cluster.local", "https://cluster.local/ns/a/sa/b",
  ])
  func `a malformed identity is refused`(id: String) throws {
    let authority = try TestAuthority()
    let leaf = try #require(authority.named("URI:\(id)").chain.first)
    let error = #expect(throws: CertificateError.self) {
      try authority.bundle.verify(chain: [leaf], at: TestAuthority.now, as: .client)
    }
    guard case .malformedIdentity = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test func `a client refuses a member it did not mean`() throws {
    let pair = try pair(TestAuthority(), expecting: .members([SPIFFEID(parsing: productpage)]))
    #expect(pair.handshake().client == .failed(.certificate(.unexpectedIdentity(reviews))))
  }

  @Test func `an empty bundle trusts nobody`() throws {
    let authority = try TestAuthority()
    let empty = try TrustBundle(trustDomain: "cluster.local", authorities: [], version: 0)
    let server = try TLSContext.server(identity: authority.identity(reviews), trust: .members(empty), protocols: ["h2"])
    let pair = try TLSPair(client: member(.client, authority, authority.identity(productpage)), server: server)
    #expect(pair.handshake().server == .failed(.certificate(.noTrustedAuthorities)))
  }

  @Test func `a server that does not require certificates still refuses bad ones`() throws {
    let authority = try TestAuthority()
    let trust = TLSTrust.members(authority.bundle, required: false)
    let server = try TLSContext.server(identity: authority.identity(reviews), trust: trust, protocols: ["h2"])
    let anonymous = try TLSPair(
      client: .client(identity: nil, trust: .members(authority.bundle), protocols: ["h2"]), server: server)
    try anonymous.connect()
    #expect(anonymous.server.verification == .anonymous)
    #expect(throws: TLSError.certificate(.noIdentity)) { try anonymous.server.peerIdentity() }
    let stranger = try TLSPair(
      client: member(.client, authority, TestAuthority("n2").identity(productpage)), server: server)
    #expect(stranger.handshake().server == .failed(.certificate(.unknownAuthority)))
  }

  @Test func `a cluster link reports a stranger's certificate and lets it prove itself inside`() throws {
    let authority = try TestAuthority()
    let stranger = try TestAuthority("n2").identity("spiffe://cluster.local/node/n2")
    let server = try TLSContext.server(
      identity: authority.identity("spiffe://cluster.local/node/n1"), trust: .reported(authority.bundle), protocols: ["mesh"])
    for (identity, verdict) in [
      (stranger, PeerVerification.unverified(.unknownAuthority)),
      (
        try authority.identity("spiffe://cluster.local/node/n3"),
        .member(try SPIFFEID(parsing: "spiffe://cluster.local/node/n3"))
      ),
    ] {
      let client = try TLSContext.client(identity: identity, trust: .reported(authority.bundle), protocols: ["mesh"])
      let pair = try TLSPair(client: client, server: server)
      try pair.connect()
      #expect(pair.server.verification == verdict)
      #expect(pair.server.peerChain.first == identity.chain.first)
      #expect(pair.server.failure == nil)
      #expect(try pair.client.peerIdentity().node == NodeName("n1"))
      #expect(try pair.client.exporter() == pair.server.exporter())
    }
  }

  @Test func `no common application protocol is a refusal`() throws {
    let authority = try TestAuthority()
    let client = try TLSContext.client(
      identity: authority.identity(productpage), trust: .members(authority.bundle), protocols: ["http/1.1"])
    let results = try TLSPair(client: client, server: member(.server, authority, authority.identity(reviews))).handshake()
    guard case .failed(.alert) = results.client, case .failed(.violation) = results.server else {
      Issue.record("client \(results.client), server \(results.server)")
      return
    }
  }

  @Test func `a session is never resumed`() throws {
    let pair = try pair(TestAuthority())
    try pair.connect()
    #expect(pair.server.send("x") == .bytes(1))
    #expect(pair.client.receive(1) == .bytes(1))
    #expect(!pair.client.hasPending)
  }

  @Test func `bytes that are not TLS are a violation, and end the session for good`() throws {
    let authority = try TestAuthority()
    let (a, b) = try Socket.pair()
    defer {
      close(a)
      close(b)
    }
    let server = try TLSSession(member(.server, authority, authority.identity(reviews)), descriptor: a)
    _ = Array("GET / HTTP/1.1\r\n\r\n".utf8).withUnsafeBytes { Socket.write(b, $0) }
    let result = server.handshake()
    guard case .failed(.violation) = result else {
      Issue.record("\(result)")
      return
    }
    #expect(server.handshake() == result)
    #expect(server.receive(1) == .failed(EPROTO))
    #expect(server.shutdown())
  }
}

@Suite struct TLSServerNameTests {
  private func site(_ name: String, _ authority: TestAuthority) throws -> TLSIdentity { try authority.named("DNS:\(name)") }

  private func client(_ authority: TestAuthority) throws -> TLSContext {
    try .client(
      identity: nil, trust: .authorities([authority.signer.certificate]), protocols: ["http/1.1"], minimum: .tls12)
  }

  @Test func `the name asked for chooses the certificate, whatever its case`() throws {
    let authority = try TestAuthority()
    let shop = try TLSContext.server(identity: site("shop.example", authority), trust: .nobody, protocols: ["http/1.1"])
    let blog = try TLSContext.server(identity: site("*.blog.example", authority), trust: .nobody, protocols: ["http/1.1"])
    let gateway = try TLSContext.server(identity: nil, trust: .nobody, protocols: []) { name in
      switch String(decoding: name, as: UTF8.self) {
      case "shop.example": shop
      case "a.blog.example": blog
      default: nil
      }
    }
    for (asked, chosen) in [("shop.example", shop), ("SHOP.example", shop), ("a.blog.example", blog)] {
      let pair = try TLSPair(client: client(authority), server: gateway, serverName: asked)
      try pair.connect()
      #expect(pair.server.context === chosen)
      #expect(pair.server.serverName == asked.lowercased())
      #expect(pair.server.applicationProtocol == "http/1.1")
      #expect(pair.client.verification == .trusted)
    }
    let unknown = try TLSPair(client: client(authority), server: gateway, serverName: "other.example").handshake()
    guard case .failed(.alert) = unknown.client else {
      Issue.record("\(unknown.client)")
      return
    }
  }

  @Test func `the chosen context's demand for a certificate holds`() throws {
    let authority = try TestAuthority()
    let members = try TLSContext.server(
      identity: authority.named("DNS:shop.example"), trust: .members(authority.bundle), protocols: ["http/1.1"])
    let gateway = try TLSContext.server(identity: nil, trust: .nobody, protocols: [], minimum: .tls12) { _ in members }
    let pair = try TLSPair(client: client(authority), server: gateway, serverName: "shop.example")
    #expect(pair.handshake().server == .failed(.certificate(.noCertificate)))
  }

  @Test(arguments: [
    ("shop.example", "shop.example", true), ("shop.example", "evil.example", false), ("*.shop.example", "a.shop.example", true),
    ("*.shop.example", "a.b.shop.example", false), ("*.shop.example", "shop.example", false),
    ("sh*.example", "shop.example", false),
  ])
  func `a server outside the mesh has to hold a certificate for its name`(held: String, asked: String, accepted: Bool) throws {
    let authority = try TestAuthority()
    let server = try TLSContext.server(identity: site(held, authority), trust: .nobody, protocols: [], minimum: .tls12)
    let pair = try TLSPair(client: client(authority), server: server, serverName: asked)
    #expect(pair.handshake().client == (accepted ? .done : .failed(.certificate(.wrongHost(asked)))))
  }

  @Test func `addresses and URIs are names too, and any one of several will do`() throws {
    let authority = try TestAuthority()
    let identity = try authority.named("IP:127.0.0.1,URI:\(productpage)")
    let server = try TLSContext.server(identity: identity, trust: .nobody, protocols: [])
    for (names, accepted) in [
      (["127.0.0.1"], true), (["127.0.0.2"], false), ([productpage], true), ([reviews], false),
      (["x.example", "127.0.0.1"], true),
    ] {
      let pair = try TLSPair(client: client(authority), server: server, expecting: .names(names))
      #expect((pair.handshake().client == .done) == accepted)
    }
  }

  @Test func `a server the system's authorities do not know is refused`() throws {
    let authority = try TestAuthority()
    let server = try TLSContext.server(identity: site("shop.example", authority), trust: .nobody, protocols: [])
    let system = try TLSContext.client(identity: nil, trust: .system, protocols: [])
    let pair = try TLSPair(client: system, server: server, serverName: "shop.example")
    #expect(pair.handshake().client == .failed(.certificate(.unknownAuthority)))
  }

  @Test func `a client that does not say whom it expects is a mistake`() throws {
    let authority = try TestAuthority()
    #expect(throws: TLSError.self) { try TLSSession(client(authority), descriptor: 0) }
  }

  @Test(
    arguments: [
      ([0, 4, 0, 0, 1, 0x41], "a"), ([0, 3, 0, 0, 0], nil), ([0, 4, 1, 0, 1, 0x41], nil), ([0, 5, 0, 0, 1, 0x41], nil),
      ([0, 4, 0, 0, 2, 0x41], nil), ([0, 4, 0, 0, 1, 0], nil), ([], nil), ([0, 5, 0, 0, 1, 0x41, 0x42], nil),
    ] as [([UInt8], String?)])
  func `the server name extension is read strictly`(bytes: [UInt8], name: String?) {
    #expect(ServerNameSelection.hostName(in: bytes) == name.map { Array($0.utf8) })
  }
}
