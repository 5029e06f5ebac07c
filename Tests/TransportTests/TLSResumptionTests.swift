import Glibc
import Primitives
import Testing

@testable import Transport

/// Sessions are continued with whom they began, and with nobody else (RFC 8446 2.2, 4.6.1; RFC 5077).
@Suite struct TLSResumptionTests {
  private static let reviews = "spiffe://cluster.local/ns/default/sa/reviews"
  private static let productpage = "spiffe://cluster.local/ns/default/sa/productpage"

  private static func options(_ maximum: TLSVersion = .tls13, keys: TicketKeys? = nil) -> TLSOptions {
    var options = TLSOptions(maximum: maximum)
    options.resumesSessions = true
    options.ticketKeys = keys
    return options
  }

  private func member(
    _ role: PeerRole, _ authority: TestAuthority, _ identity: TLSIdentity, keys: TicketKeys? = nil
  ) throws -> TLSContext {
    let trust = TLSTrust.members(authority.bundle)
    guard role == .server else {
      return try .client(identity: identity, trust: trust, protocols: ["h2"], options: Self.options())
    }
    return try .server(identity: identity, trust: trust, protocols: ["h2"], options: Self.options(keys: keys))
  }

  /// One connection, with the tickets taken in, and its orderly end.
  private func meet(
    _ client: TLSContext, _ server: TLSContext, name: String? = "reviews", expecting: ExpectedPeer = .any
  ) throws -> TLSPair {
    let pair = try TLSPair(client: client, server: server, serverName: name, expecting: expecting)
    try pair.connect()
    #expect(pair.server.send("x") == .bytes(1))
    #expect(pair.client.receive(1) == .bytes(1))
    pair.client.shutdown()
    pair.server.shutdown()
    return pair
  }

  @Test func `both members keep the identities that they proved when the session began`() throws {
    let authority = try TestAuthority()
    let (a, b) = (try authority.identity(Self.productpage), try authority.identity(Self.reviews))
    let client = try member(.client, authority, a)
    let server = try member(.server, authority, b)
    for round in 0..<3 {
      let pair = try meet(client, server, expecting: .members([try SPIFFEID(parsing: Self.reviews)]))
      #expect(pair.client.isResumed == (round > 0))
      #expect(pair.server.isResumed == (round > 0))
      #expect(try pair.server.peerIdentity().description == Self.productpage)
      #expect(try pair.client.peerIdentity().description == Self.reviews)
      #expect(pair.server.peerChain.first == a.chain.first)
    }
  }

  @Test func `another expectation, another certificate or another bundle begins anew`() throws {
    let authority = try TestAuthority()
    let (a, b) = (try authority.identity(Self.productpage), try authority.identity(Self.reviews))
    let keys = TicketKeys()
    let client = try member(.client, authority, a)
    let reviews = ExpectedPeer.members([try SPIFFEID(parsing: Self.reviews)])
    let server = try member(.server, authority, b, keys: keys)
    _ = try meet(client, server, expecting: reviews)
    let wider = ExpectedPeer.members([try SPIFFEID(parsing: Self.reviews), try SPIFFEID(parsing: Self.productpage)])
    #expect(try !meet(client, server, expecting: wider).client.isResumed)
    // The same keys and the same client, but another context: its certificate was renewed, or its bundle has changed.
    let renewed = try member(.server, authority, authority.identity(Self.reviews), keys: keys)
    #expect(try !meet(client, renewed, expecting: reviews).server.isResumed)
    #expect(try meet(client, renewed, expecting: reviews).client.isResumed)
    let rotated = try member(.client, authority, a)
    #expect(try !meet(rotated, server, expecting: reviews).client.isResumed)
  }

  @Test(arguments: [TLSVersion.tls12, .tls13])
  func `a session of one server name is not taken for another's, also when the keys are the same`(version: TLSVersion) throws {
    let authority = try TestAuthority()
    let names = ["a.example", "b.example"]
    let servers = try names.map {
      try TLSContext.server(
        identity: authority.named("DNS:\($0)"), trust: .nobody, protocols: ["h2"], minimum: .tls12,
        options: Self.options(version))
    }
    let gateway = try TLSContext.server(
      identity: nil, trust: .nobody, protocols: [], minimum: .tls12, options: Self.options(keys: TicketKeys())
    ) { name in names.firstIndex { $0.utf8.elementsEqual(name) }.map { servers[$0] } }
    let client = try TLSContext.client(
      identity: nil, trust: .authorities([authority.signer.certificate]), protocols: ["h2"], minimum: .tls12,
      options: Self.options(version))
    #expect(try !meet(client, gateway, name: names[0]).client.isResumed)
    #expect(try meet(client, gateway, name: names[0]).client.isResumed)
    // A client that mistakes one server's session for the other's.
    let stolen = try #require(client.sessions.take("\(names[0]) \(names[0])"))
    client.sessions.give(stolen, for: "\(names[1]) \(names[1])")
    let other = try meet(client, gateway, name: names[1])
    #expect(!other.server.isResumed)
    #expect(other.server.context === servers[1])
    #expect(other.client.verification == .trusted)
  }

  @Test(arguments: [TLSVersion.tls12, .tls13])
  func `a client's certificate is known again, and one that has expired since is asked for anew`(version: TLSVersion) throws {
    let authority = try TestAuthority()
    let rules = ClientRules(authorities: [authority.signer.certificate], isRequired: true, names: [Self.productpage])
    let server = try TLSContext.server(
      identity: authority.named("DNS:shop.example"), trust: .clients(rules), protocols: ["h2"], minimum: .tls12,
      options: Self.options(version))
    func client(_ identity: TLSIdentity) throws -> TLSContext {
      try .client(
        identity: identity, trust: .authorities([authority.signer.certificate]), protocols: ["h2"], minimum: .tls12,
        options: Self.options(version))
    }
    let lasting = try authority.identity(Self.productpage)
    let context = try client(lasting)
    for round in 0..<3 {
      let pair = try meet(context, server, name: "shop.example")
      #expect(pair.server.isResumed == (round > 0))
      #expect(pair.server.verification == .trusted)
      #expect(pair.server.peerChain.first == lasting.chain.first)
    }
    let ending = Int64(time(nil)) + 1
    let brief = try client(authority.identity(Self.productpage, now: ending - TestAuthority.day, lifetime: TestAuthority.day))
    _ = try meet(brief, server, name: "shop.example")
    while Int64(time(nil)) <= ending { poll(nil, 0, 20) }
    let late = try TLSPair(client: brief, server: server, serverName: "shop.example")
    #expect(late.handshake().server == .failed(.certificate(.expired)))
  }

  @Test func `a ticket key seals for one lifetime and opens for two`() {
    let keys = TicketKeys(lifetime: .seconds(10))
    let start = Instant.zero
    func opens(_ key: TicketKeys.Key, after seconds: Int) -> Bool? {
      key.name.withUnsafeBufferPointer { keys.opening($0, at: start + .seconds(seconds))?.isCurrent }
    }
    let first = keys.sealing(at: start)
    #expect(keys.sealing(at: start + .seconds(9)).name == first.name)
    let second = keys.sealing(at: start + .seconds(10))
    #expect(second.name != first.name)
    #expect(opens(first, after: 9) == true)
    #expect(opens(first, after: 19) == false)
    #expect(opens(first, after: 20) == nil)
    let third = keys.sealing(at: start + .seconds(25))
    #expect(opens(first, after: 15) == nil)
    #expect(opens(second, after: 26) == false)
    #expect(opens(third, after: 26) == true)
    #expect([UInt8](repeating: 0, count: 16).withUnsafeBufferPointer { keys.opening($0, at: start) == nil })
  }

  @Test func `what a client remembers is bounded`() throws {
    let authority = try TestAuthority()
    let server = try TLSContext.server(
      identity: authority.named("DNS:*.example"), trust: .nobody, protocols: ["h2"], options: Self.options())
    let client = try TLSContext.client(
      identity: nil, trust: .nobody, protocols: ["h2"], options: Self.options())
    _ = try meet(client, server, name: "a.example")
    let session = try #require(client.sessions.take("a.example "))
    for index in 0...TransportLimits.resumableServers { client.sessions.give(session, for: "\(index)") }
    #expect(client.sessions.take("0") == nil)
    for _ in 0...TransportLimits.sessionsPerServer { client.sessions.give(session, for: "1") }
    for _ in 0..<TransportLimits.sessionsPerServer { #expect(client.sessions.take("1") != nil) }
    #expect(client.sessions.take("1") == nil)
  }
}
