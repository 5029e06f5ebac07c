import Distributed
import Glibc
import Primitives
import Transport

/// What is called.
distributed actor Echo: MeshActor {
  typealias ActorSystem = SocketActorSystem

  static let name = "echo"
  static let targets = [
    MeshTarget("$s12bench_actors4EchoC4echoySays5UInt8VGAGYaKFTE") { (echo: Echo, bytes: [UInt8]) in try await echo.echo(bytes)
    },
    MeshTarget("$s12bench_actors4EchoC5briefySays5UInt8VGAGYaKFTE", order: .brief) { (echo: Echo, bytes: [UInt8]) in
      try await echo.brief(bytes)
    },
    MeshTarget("$s12bench_actors4EchoC5countSiyYaKFTE") { (echo: Echo) in try await echo.count() },
  ]
  static func authorize(_ target: MeshTarget, caller: NodeName) -> Bool { true }

  private var calls = 0

  distributed func echo(_ bytes: [UInt8]) async throws -> [UInt8] {
    calls += 1
    return bytes
  }
  /// The same for the thread that carries the link.
  distributed func brief(_ bytes: [UInt8]) async throws -> [UInt8] {
    calls += 1
    return bytes
  }
  distributed func count() async throws -> Int { calls }
}

/// A node as the product builds it: an event loop, a network of links over mutual TLS, and an actor system on top.
struct BenchNode {
  static let server: NodeName = {
    guard let name = try? NodeName("server") else { preconditionFailure("this is a valid name") }
    return name
  }()

  let loop: EventLoop
  let network: LinkNetwork
  let system: SocketActorSystem

  init(_ name: String, at address: String) throws {
    ProcessSettings.ignoreBrokenPipe()
    let name = try NodeName(name)
    let now = Int64(time(nil))
    let signer = try CertificateSigner.selfSigned(trustDomain: "cluster.local", node: name, now: now, lifetime: 86_400)
    let key = PrivateKey.generate()
    let leaf = try signer.issue(
      to: key.publicKey, identity: .node(trustDomain: "cluster.local", name: name), now: now, lifetime: 86_400)
    let credentials = LinkCredentials(
      identity: try TLSIdentity(chain: [leaf], key: key), authorities: [signer.certificate],
      bundle: try TrustBundle(trustDomain: "cluster.local", authorities: [], version: 1),
      joinSecret: [UInt8](repeating: 7, count: 32))
    loop = try EventLoop(name: "links")
    network = try LinkNetwork(
      loop: loop,
      local: LocalNode(
        name: name, cluster: try DNSLabel("bench"), incarnation: 1, trustDomain: "cluster.local",
        address: try SocketAddress(parsing: address)),
      credentials: credentials
    ) { _ in }
    system = SocketActorSystem(carrier: network)
    try loop.start()
  }
}
