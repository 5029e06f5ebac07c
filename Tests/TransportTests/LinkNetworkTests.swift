import Dispatch
import Distributed
import Primitives
import Synchronization
import Testing

@testable import Transport

@Suite("Links over TLS", .timeLimit(.minutes(1))) struct LinkNetworkTests {
  @Test("nodes with the same join secret introduce themselves, then carry frames both ways") func introduced() async throws {
    let (a, b) = (try Credentials("a"), try Credentials("b"))
    let inbox = Mutex<[String]>([])
    let near = try LinkNode("a", a.link()) { network in
      network.onFrame(.raft) { node, body in inbox.withLock { $0.append("\(node):\(String(decoding: body, as: UTF8.self))") } }
    }
    let far = try LinkNode("b", b.link()) { network in
      network.onFrame(.raft) { [unowned network] node, body in network.send(.raft, .urgent, to: node, body: body + [0x21]) }
    }
    near.network.setPeers([far.name: far.address])
    #expect(try await near.log.up("b") == .joinSecret)
    #expect(try await far.log.up("a") == .joinSecret)
    let offered = try await far.log.first { event -> [UInt8]? in
      if case .introduced(_, _, let authority) = event { authority } else { nil }
    }
    #expect(offered == a.signer.certificate.der)
    #expect(near.network.send(.raft, .urgent, to: far.name, body: Array("vote".utf8)) == .queued)
    try await eventually { inbox.withLock { $0 } == ["b:vote!"] }
    let statistics = await near.network.statistics()
    #expect(statistics.map(\.node) == [far.name])
    await far.stop()
    #expect(try await near.log.down("b").contains("left"))
    await near.stop()
  }

  @Test("nodes that trust each other's authority need no join secret") func bundle() async throws {
    let (a, b) = (try Credentials("a"), try Credentials("b"))
    let all = [a.signer.certificate, b.signer.certificate]
    let near = try LinkNode("a", a.link(trusting: all, secret: nil))
    let far = try LinkNode("b", b.link(trusting: all, secret: nil))
    near.network.setPeers([far.name: far.address])
    #expect(try await near.log.up("b") == .bundle)
    #expect(try await far.log.up("a") == .bundle)
    #expect(!far.log.all.contains { if case .introduced = $0 { true } else { false } })
    await near.stop()
    await far.stop()
  }

  @Test("a wrong join secret is refused with a sentence on both sides") func wrongSecret() async throws {
    let near = try LinkNode("a", try Credentials("a").link())
    let far = try LinkNode("b", try Credentials("b").link(secret: [UInt8](repeating: 8, count: 32)))
    far.network.setPeers([near.name: near.address])
    let (code, here) = try await near.log.refusal(byPeer: false)
    #expect(code == .joinSecretMismatch)
    #expect(here.hasPrefix("b at 127.0.0.1:"))
    #expect(here.hasSuffix(" was refused: its join secret is not this node's; both need the join secret file of the cluster"))
    #expect(near.log.all.count { if case .up = $0 { true } else { false } } == 0)
    await near.stop()
    await far.stop()
  }

  struct Refused: Sendable {
    var what: String
    var code: LinkRejection
    var words: String
    var dialler: @Sendable () throws -> LinkNode
    var expected = "b"
  }
  static let refused: [Refused] = [
    Refused(what: "a node without the secret", code: .joinSecretMissing, words: "copy the join secret file") {
      // It trusts the other's authority, so the refusal is the other's alone.
      try LinkNode("b", Credentials("b").link(trusting: [hostSigner.certificate], secret: nil))
    },
    Refused(what: "another cluster", code: .wrongCluster, words: "belongs to cluster") {
      try LinkNode("b", cluster: "other", Credentials("b").link())
    },
    Refused(what: "a certificate for another node", code: .identityMismatch, words: "not node b") {
      try LinkNode("b", Credentials("b").link(claiming: "c", trusting: [hostSigner.certificate]))
    },
    Refused(what: "the host's own name", code: .nameInUse, words: "rename one of them") {
      try LinkNode("host", incarnation: 9, Credentials("host").link(trusting: [hostSigner.certificate]))
    },
    Refused(what: "an authority it was not issued by", code: .untrustedCertificate, words: "under the authority") {
      var credentials = try Credentials("b").link(trusting: [hostSigner.certificate])
      credentials.authorities = [try Credentials("b").signer.certificate]
      return try LinkNode("b", credentials)
    },
  ]
  /// The authority of the node that is dialled in `refusals`.
  static let hostSigner: CertificateSigner = {
    do { return try Credentials("host").signer } catch { fatalError("\(error)") }
  }()

  @Test("each refusal carries its code, and words on both sides", arguments: refused.indices)
  func refusals(_ index: Int) async throws {
    let refused = Self.refused[index]
    let key = PrivateKey.generate()
    let leaf = try Self.hostSigner.issue(
      to: key.publicKey, identity: .node(trustDomain: "cluster.local", name: NodeName("host")),
      now: Self.hostSigner.certificate.notBefore + 120, lifetime: 3_000)
    let host = try LinkNode(
      "host",
      LinkCredentials(
        identity: TLSIdentity(chain: [leaf], key: key), authorities: [Self.hostSigner.certificate],
        bundle: TrustBundle(trustDomain: "cluster.local", authorities: [], version: 1), joinSecret: Credentials.secret))
    let dialler = try refused.dialler()
    // A name that is not the dialler's own, so that it dials at all.
    let target = dialler.name == host.name ? try NodeName("elsewhere") : host.name
    dialler.network.setPeers([target: host.address])
    let (code, _) = try await host.log.refusal(byPeer: false)
    #expect(code == refused.code, "\(refused.what)")
    if dialler.name != host.name, dialler.network.local.cluster == host.network.local.cluster {
      let (told, words) = try await dialler.log.refusal(byPeer: true)
      #expect(told == refused.code, "\(refused.what)")
      #expect(words.hasPrefix("\(host.address) (host) refused this node: "), "\(words)")
      #expect(words.contains(refused.words), "\(words)")
    }
    await dialler.stop()
    await host.stop()
  }

  @Test("another node at the address of the one dialled is refused by name") func wrongAddress() async throws {
    let near = try LinkNode("a", try Credentials("a").link())
    let far = try LinkNode("b", try Credentials("b").link())
    near.network.setPeers([try NodeName("c"): far.address])
    let (code, words) = try await near.log.refusal(byPeer: false)
    #expect(code == .identityMismatch)
    #expect(words.contains("c was expected there; correct the addresses in cluster.json"))
    await near.stop()
    await far.stop()
  }

  @Test("a node that dials itself is told so") func selfConnection() async throws {
    let node = try LinkNode("a", try Credentials("a").link())
    node.network.setPeers([try NodeName("b"): node.address])
    let (code, _) = try await node.log.refusal(byPeer: false)
    #expect(code == .selfConnection)
    await node.stop()
  }

  @Test("what the cluster declines is refused with its words") func admission() async throws {
    let host = try LinkNode("a", try Credentials("a").link()) { network in
      network.onAdmission { node, _, _, _ in node.string == "b" ? "b was removed" : nil }
    }
    let dialler = try LinkNode("b", try Credentials("b").link())
    dialler.network.setPeers([host.name: host.address])
    let (code, words) = try await dialler.log.refusal(byPeer: true)
    #expect(code == .declined)
    #expect(words.hasSuffix("refused this node: b was removed"))
    await dialler.stop()
    await host.stop()
  }

  @Test("both ends dialling at once leaves one link, dialled by the lower name") func simultaneous() async throws {
    let (a, b) = (try LinkNode("a", try Credentials("a").link()), try LinkNode("b", try Credentials("b").link()))
    a.network.learn(b.name, at: b.address)
    b.network.learn(a.name, at: a.address)
    #expect(a.network.send(.raft, .urgent, to: b.name, body: [1]) == .queued)
    #expect(b.network.send(.raft, .urgent, to: a.name, body: [1]) == .queued)
    a.network.setPeers([b.name: b.address])
    b.network.setPeers([a.name: a.address])
    _ = try await a.log.up("b")
    _ = try await b.log.up("a")
    try await eventually {
      let (near, far) = (await a.network.statistics(), await b.network.statistics())
      return near.count == 1 && far.count == 1 && near[0].outbound != far[0].outbound
    }
    #expect(!a.log.all.contains { if case .down = $0 { true } else { false } })
    await a.stop()
    await b.stop()
  }

  @Test("a renewed certificate replaces the link without a call or the node going down") func rotation() async throws {
    let (a, b) = (try Credentials("a"), try Credentials("b"))
    let near = try LinkNode("a", a.link())
    let systems = Mutex<[SocketActorSystem]>([])
    let far = try LinkNode("b", b.link()) { network in systems.withLock { $0.append(SocketActorSystem(carrier: network)) } }
    let library = Library(actorSystem: systems.withLock { $0[0] })
    let system = SocketActorSystem(carrier: near.network)
    near.network.setPeers([far.name: far.address])
    _ = try await near.log.up("b")
    let proxy = try Library.on(far.name, using: system)
    #expect(try await proxy.add(1, 2) == 3)
    let first = near.network.link(to: far.name)
    try near.network.update(a.link())
    try await eventually {
      let sum = try await proxy.add(1, 2)
      #expect(sum == 3)
      return near.network.link(to: far.name) != first
    }
    #expect(!near.log.all.contains { if case .down = $0 { true } else { false } })
    #expect(try await library.size == 0)
    await near.stop()
    await far.stop()
  }

  @Test("calls over a real link: results, order of errors, and the end of the link") func calls() async throws {
    let near = try LinkNode("a", try Credentials("a").link())
    let systems = Mutex<[SocketActorSystem]>([])
    let far = try LinkNode("b", try Credentials("b").link()) { network in
      systems.withLock { $0.append(SocketActorSystem(carrier: network)) }
    }
    let started = Gate()
    let library = Library(actorSystem: systems.withLock { $0[0] }, started: started)
    let system = SocketActorSystem(carrier: near.network)
    near.network.learn(far.name, at: far.address)
    let proxy = try Library.on(far.name, using: system)
    // The first call dials; the link's name for the caller is the one that TLS proved.
    #expect(try await proxy.caller() == "a")
    let cover = [UInt8](repeating: 9, count: 1 << 20)
    let book = Book(title: "long", format: .audio, isbn: nil, ratings: [:], cover: cover)
    #expect(try await proxy.echo(book) == book)
    await #expect(throws: MeshError(.conflict, "no")) { try await proxy.fail(with: "no") }
    let tooLong = Book(title: "", format: .audio, isbn: nil, ratings: [:], cover: [UInt8](repeating: 0, count: 5 << 20))
    await #expect(throws: MeshError.self) { _ = try await proxy.echo(tooLong) }
    let held = Task { try await proxy.hold() }
    await started.wait()
    await far.stop()
    await #expect {
      try await held.value
    } throws: { ($0 as? MeshError)?.code == .nodeUnreachable }
    #expect(try await library.noted() == [])
    await near.stop()
  }

  @Test("a call to a node that is not there fails at once") func nobody() async throws {
    let near = try LinkNode("a", try Credentials("a").link())
    let gone = try LinkNode("b", try Credentials("b").link())
    await gone.stop()
    let system = SocketActorSystem(carrier: near.network)
    near.network.learn(gone.name, at: gone.address)
    let proxy = try Library.on(gone.name, using: system)
    await #expect {
      _ = try await proxy.add(1, 1)
    } throws: { ($0 as? MeshError)?.code == .nodeUnreachable }
    await near.stop()
  }

  @Test("an urgent frame overtakes a bulk transfer") func lanes() async throws {
    let near = try LinkNode("a", try Credentials("a").link())
    let arrived = Mutex<[FrameKind]>([])
    let far = try LinkNode("b", try Credentials("b").link()) { network in
      network.onFrame([.catchUp, .raft]) { _, frame in arrived.withLock { $0.append(frame.kind) } }
    }
    near.network.learn(far.name, at: far.address)
    let body = [UInt8](repeating: 1, count: 16 << 20)
    #expect(near.network.send(.catchUp, .bulk, to: far.name, body: body) == .queued)
    #expect(near.network.send(.raft, .urgent, to: far.name, body: [1]) == .queued)
    try await eventually { arrived.withLock { $0.count } == 2 }
    #expect(arrived.withLock { $0 } == [.raft, .catchUp])
    await near.stop()
    await far.stop()
  }

  @Test("garbage instead of TLS is closed, and the listener goes on") func garbage() async throws {
    let near = try LinkNode("a", try Credentials("a").link())
    let socket = try Socket.connect(to: near.address)
    let bytes = Array("GET / HTTP/1.1\r\n\r\n".utf8)
    try await eventually { bytes.withUnsafeBytes { socket.write($0) } != .wouldBlock }
    _ = try await near.log.first { event -> Bool? in if case .failed = event { true } else { nil } }
    let far = try LinkNode("b", try Credentials("b").link())
    far.network.setPeers([near.name: near.address])
    _ = try await far.log.up("a")
    await far.stop()
    await near.stop()
  }

  @Test("a peer that hangs without closing is dead after it has owed an answer for three seconds") func silence() async throws {
    let near = try LinkNode("a", try Credentials("a").link())
    let far = try LinkNode("b", try Credentials("b").link())
    near.network.setPeers([far.name: far.address])
    _ = try await near.log.up("b")
    let resume = DispatchSemaphore(value: 0)
    far.loop.post { resume.wait() }
    near.network.send(.raft, .urgent, to: far.name, body: [1])
    #expect(try await near.log.down("b").contains("nothing was heard"))
    resume.signal()
    await near.stop()
    await far.stop()
  }
}
