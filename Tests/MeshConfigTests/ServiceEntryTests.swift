import Primitives
import Testing

@testable import MeshConfig

/// ServiceEntries, WorkloadEntries and Services that name something outside the mesh (Istio, ServiceEntry).
@Suite struct ServiceEntryTests {
  private static func entry(_ spec: String, labels: String = "{}", name: String = "s") -> String {
    Fixture.object("ServiceEntry", name, spec: spec).replacing(
      "namespace: default", with: "namespace: default\n  labels: \(labels)")
  }
  private static func compiler(_ text: String, _ workloads: [WorkloadRecord] = []) throws -> SnapshotCompiler {
    var compiler = SnapshotCompiler(settings: try Fixture.settings())
    compiler.replace(objects: Fixture.stored(text))
    compiler.replace(workloads: [try Fixture.workload("client", port: 1)] + workloads)
    return compiler
  }
  private static func endpoints(_ snapshot: MeshSnapshot, _ cluster: String) -> [String] {
    (snapshot.cluster(cluster)?.endpoints ?? []).map { "\($0.address):\($0.port)" }.sorted()
  }

  // MARK: DNS

  private static let dns = "hosts: [db.example.com]\nresolution: DNS\nports: [{number: 80, name: http, protocol: HTTP}]"

  @Test func `with DNS all addresses of the answer are endpoints, and a new answer is taken`() throws {
    var compiler = try Self.compiler(Self.entry(Self.dns))
    func compiled() -> MeshSnapshot { compiler.compile(revision: 1, registryVersion: 1).snapshot }
    let name = "outbound|80||db.example.com"
    let first = compiled()
    #expect(first.cluster(name)?.discovery == .dns)
    // A name that is not known yet stands for itself.
    #expect(Self.endpoints(first, name) == ["db.example.com:80"])
    #expect(compiler.namesToResolve == ["db.example.com"])
    compiler.use(names: ["db.example.com": ["192.0.2.1", "192.0.2.2", "2001:db8::1"], "other.example": ["192.0.2.9"]])
    let second = compiled()
    #expect(Self.endpoints(second, name) == ["192.0.2.1:80", "192.0.2.2:80", "2001:db8::1:80"])
    #expect(second.changes?.onlyEndpoints == true && second.changes?.clusters.count == 1)
    compiler.use(names: ["db.example.com": ["192.0.2.2"]])
    #expect(Self.endpoints(compiled(), name) == ["192.0.2.2:80"])
  }

  @Test func `endpoints that are names are resolved each, and one address is one endpoint`() throws {
    var compiler = try Self.compiler(
      Self.entry(Self.dns + "\nendpoints: [{address: a.example, weight: 3}, {address: b.example}, {address: 192.0.2.7}]"))
    _ = compiler.compile(revision: 1, registryVersion: 1)
    #expect(compiler.namesToResolve == ["a.example", "b.example"])
    compiler.use(names: ["a.example": ["192.0.2.1", "192.0.2.2"], "b.example": ["192.0.2.1"]])
    let snapshot = compiler.compile(revision: 1, registryVersion: 2).snapshot
    let name = "outbound|80||db.example.com"
    #expect(Self.endpoints(snapshot, name) == ["192.0.2.1:80", "192.0.2.2:80", "192.0.2.7:80"])
    #expect(snapshot.cluster(name)?.endpoints.first { $0.address == "192.0.2.2" }?.weight == 3)
  }

  @Test func `with DNS_ROUND_ROBIN the name stays the one endpoint`() throws {
    var compiler = try Self.compiler(Self.entry(Self.dns.replacing("DNS", with: "DNS_ROUND_ROBIN")))
    let snapshot = compiler.compile(revision: 1, registryVersion: 1).snapshot
    #expect(snapshot.cluster("outbound|80||db.example.com")?.discovery == .logicalDNS)
    #expect(compiler.namesToResolve.isEmpty)
    #expect(Self.endpoints(snapshot, "outbound|80||db.example.com") == ["db.example.com:80"])
  }

  @Test func `what no client may call is not resolved`() throws {
    let hidden = "\nexportTo: ['~']"
    var compiler = try Self.compiler(Self.entry(Self.dns + hidden))
    _ = compiler.compile(revision: 1, registryVersion: 1)
    #expect(compiler.namesToResolve.isEmpty)
  }

  // MARK: Addresses

  private static func service(_ port: TCPRouteTable.PortTable?, at address: String) -> String? {
    guard let port, let bytes = AddressForm.parse(address) else { return nil }
    return port.service(host: Array(address.utf8), address: bytes).map { port.services[$0].host }
  }

  @Test func `a connection for an address in a block is the service's, the narrowest block first`() throws {
    let text =
      Self.entry(
        "hosts: [wide.test]\naddresses: [10.0.0.0/8, 192.0.2.5]\nresolution: NONE\nports: [{number: 27018, name: tcp, protocol: TCP}]",
        name: "wide")
      + Self.entry(
        "hosts: [narrow.test]\naddresses: ['10.1.0.0/16', '2001:db8::/32']\nresolution: STATIC\nendpoints: [{address: 10.9.9.9}]\nports: [{number: 27018, name: tcp, protocol: TCP}]",
        name: "narrow")
    #expect(Fixture.changeSet(text).findings.allSatisfy { $0.code != "MESH0001" })
    var compiler = try Self.compiler(text)
    let port = compiler.compile(revision: 1, registryVersion: 1).snapshot.tcp.first?.port(27018)
    #expect(Self.service(port, at: "10.2.3.4") == "wide.test")
    #expect(Self.service(port, at: "10.1.3.4") == "narrow.test")
    #expect(Self.service(port, at: "2001:db8::9") == "narrow.test")
    #expect(Self.service(port, at: "192.0.2.5") == "wide.test")
    #expect(Self.service(port, at: "192.0.2.6") == nil)
  }

  @Test func `a virtual address is allocated where none is written, and clients may call it`() throws {
    let text =
      Self.entry(
        "hosts: [a.test]\nresolution: STATIC\nendpoints: [{address: 10.9.9.9}]\nports: [{number: 80, name: http}]", name: "a")
      + Self.entry(
        "hosts: [off.test]\nresolution: STATIC\nendpoints: [{address: 10.9.9.9}]\nports: [{number: 80, name: http}]",
        labels: "{networking.istio.io/enable-autoallocate-ip: 'false'}", name: "without")
      + Self.entry("hosts: [none.test]\nports: [{number: 80, name: http}]", name: "none")
      + Self.entry(
        "hosts: ['*.wild.test']\nresolution: STATIC\nendpoints: [{address: 10.9.9.9}]\nports: [{number: 80, name: http}]",
        name: "wild")
      + Self.entry("hosts: [own.test]\naddresses: [192.0.2.1]\nports: [{number: 80, name: http}]", name: "own")
    var compiler = try Self.compiler(text)
    let first = compiler.compile(revision: 1, registryVersion: 1).snapshot
    #expect(first.services.filter { $0.allocatesAddress && $0.origin == .serviceEntry }.map(\.host) == ["a.test"])
    let hosts = ["a.test", "off.test", "none.test", "*.wild.test", "own.test"]
    compiler.use(allocated: Dictionary(hosts.enumerated().map { ($0.element, "240.240.0.\($0.offset + 1)") }) { $1 })
    let (snapshot, _) = compiler.compile(revision: 1, registryVersion: 1)
    #expect(snapshot.services.first { $0.host == "a.test" }?.addresses == ["240.240.0.1", "2001:2::1"])
    #expect(snapshot.services.first { $0.host == "off.test" }?.addresses == [])
    #expect(snapshot.services.first { $0.host == "none.test" }?.addresses == [])
    #expect(snapshot.services.first { $0.host == "own.test" }?.addresses == ["192.0.2.1"])
    for name in ["240.240.0.1", "[2001:2::1]"] { #expect(!snapshot.routes(name, 80).isEmpty) }
    let opaque = snapshot.tcp[snapshot.localWorkloads[0].outbound].ports.first { $0.port == 80 }
    #expect(opaque?.hosts[Array("2001:2::1".utf8)] != nil)
    // The endpoints of STATIC without endpoints are what was written, never what was allocated.
    #expect(Self.endpoints(snapshot, "outbound|80||a.test") == ["10.9.9.9:80"])
    // Nothing is built again for an address that is known.
    compiler.put(Fixture.stored(Self.entry("hosts: [late.test]\nports: [{number: 80, name: http}]", name: "late"))[0])
    _ = compiler.compile(revision: 2, registryVersion: 1)
    #expect(compiler.work.clustersBuilt == 1)
  }

  // MARK: Addresses that the mesh allocates

  @Test func `allocated addresses are shown as status, and what is shown can be applied again`() throws {
    let hosts = "hosts: [B.example.com, a.example.com, '*.w.example.com', c.example.com]"
    let ports = "resolution: STATIC\nendpoints: [{address: 10.0.0.1}]\nports: [{number: 80, name: http, protocol: HTTP}]"
    let known = ["a.example.com": "240.240.0.2", "b.example.com": "240.240.0.1", "*.w.example.com": "240.240.0.3"]
    let object = try #require(Fixture.stored(Self.entry("\(hosts)\n\(ports)")).first?.object)
    let allocated = object.allocatedAddresses { known[$0] }
    #expect(allocated.map(\.host) == ["b.example.com", "b.example.com", "a.example.com", "a.example.com"])
    #expect(allocated.map(\.value) == ["240.240.0.1", "2001:2::1", "240.240.0.2", "2001:2::2"])
    let yaml = object.yaml(status: .status(of: allocated))
    #expect(yaml.contains("status:\n  addresses:\n  - host: b.example.com\n    value: \"240.240.0.1\"\n"), "\(yaml)")
    #expect(yaml.contains("value: \"2001:2::1\"\n") || yaml.contains("value: 2001:2::1\n"), "\(yaml)")
    #expect(object.json(status: .status(of: allocated)).contains(#"{"host":"a.example.com","value":"240.240.0.2"}"#))
    let again = Fixture.changeSet(yaml)
    #expect(again.findings.isEmpty && again.objects == [object])
    #expect(object.yaml(status: nil) == object.yaml)
  }

  @Test(arguments: [
    ("240.240.0.1", "2001:2::1"), ("240.240.1.2", "2001:2::102"), ("240.240.255.254", "2001:2::fffe"),
    ("240.240.16.0", "2001:2::1000"),
  ])
  func `each has its own number in both blocks`(first: String, second: String) throws {
    #expect(VirtualAddress.all(first) == [first, second])
    #expect(AddressForm.isAddress(second))
  }

  @Test func `an address that is written is a name of the service, in brackets where it is of version 6`() throws {
    let text = Self.entry("hosts: [six.test]\naddresses: ['2001:db8::7']\nports: [{number: 80, name: http}]", name: "six")
    var compiler = try Self.compiler(text)
    #expect(!compiler.compile(revision: 1, registryVersion: 1).snapshot.routes("[2001:db8::7]", 80).isEmpty)
  }

  @Test(arguments: [
    ("addresses: [192.0.2.1]\nresolution: DNS", "{}"), ("resolution: NONE", "{}"),
    ("resolution: DNS", "{networking.istio.io/enable-autoallocate-ip: 'false'}"),
  ])
  func `entries that get no address show none`(spec: String, labels: String) throws {
    let text = Self.entry("hosts: [a.example.com]\n\(spec)\nports: [{number: 80, name: http, protocol: HTTP}]", labels: labels)
    let object = try #require(Fixture.stored(text).first?.object)
    #expect(object.allocatedAddresses { _ in "240.240.0.1" }.isEmpty)
    #expect(YAMLNode.status(of: []) == nil)
  }

  // MARK: Unix sockets

  @Test func `an endpoint may be a Unix socket, with a path that fits`() throws {
    let text = Self.entry(
      "hosts: [local.test]\nresolution: STATIC\nports: [{number: 80, name: http}]\nendpoints: [{address: 'unix:///run/app.sock'}]"
    )
    #expect(Fixture.changeSet(text).findings.isEmpty)
    var compiler = try Self.compiler(text)
    let endpoint = compiler.compile(revision: 1, registryVersion: 1).snapshot.cluster("outbound|80||local.test")?.endpoints
      .first
    #expect(endpoint?.address == "unix:///run/app.sock" && endpoint?.mesh == nil)
    let long = text.replacing("/run/app.sock", with: "/" + String(repeating: "x", count: 107))
    #expect(Fixture.changeSet(long).findings.contains { $0.reason.contains("at most 107 bytes") })
  }

  // MARK: Workloads of the mesh

  private static func member(_ endpoint: String) -> String {
    entry(
      """
      hosts: [vm.test]
      location: MESH_INTERNAL
      resolution: STATIC
      ports: [{number: 80, name: http, protocol: HTTP, targetPort: 9080}]
      endpoints: [\(endpoint)]
      """)
  }
  private static func endpoint(_ endpoint: String, registered: Bool = true) throws -> Endpoint? {
    let workload = try Fixture.workload("reviews", node: "n2")
    var compiler = try Self.compiler(member(endpoint), registered ? [workload] : [])
    return compiler.compile(revision: 1, registryVersion: 1).snapshot.cluster("outbound|80||vm.test")?.endpoints.first
  }

  @Test func `an entry for a registered workload is called by mutual TLS with the account that it names`() throws {
    let found = try Self.endpoint("{address: 10.0.0.1, serviceAccount: books, weight: 7, locality: eu/x}")
    #expect(found?.mesh?.identity.description == "spiffe://cluster.local/ns/default/sa/books")
    #expect(found?.mesh?.port == 15008 && found?.weight == 7 && found?.locality.description == "eu/x/")
    let labelled = try Self.endpoint("{address: 10.0.0.1, labels: {security.istio.io/tlsMode: istio}}")
    #expect(labelled?.mesh?.identity.description == "spiffe://cluster.local/ns/default/sa/reviews")
  }

  @Test func `without an account, or with the label that says so, an entry is called plainly`() throws {
    #expect(try Self.endpoint("{address: 10.0.0.1}")?.mesh == nil)
    let disabled = "{address: 10.0.0.1, serviceAccount: books, labels: {security.istio.io/tlsMode: disabled}}"
    let plain = try Self.endpoint(disabled)
    #expect(plain != nil && plain?.mesh == nil)
    #expect(try Self.endpoint("{address: 10.0.0.1, serviceAccount: books}", registered: false)?.mesh == nil)
    // Where the label demands mutual TLS, there is no endpoint rather than one without.
    #expect(try Self.endpoint("{address: 10.0.0.1, labels: {security.istio.io/tlsMode: istio}}", registered: false) == nil)
  }

  @Test func `an entry follows the workload that is registered at its address`() throws {
    let text = Self.member("{address: 10.0.0.1, serviceAccount: reviews}")
    var compiler = try Self.compiler(text)
    func route() -> Endpoint.MeshRoute? {
      compiler.compile(revision: 1, registryVersion: 1).snapshot.cluster("outbound|80||vm.test")?.endpoints.first?.mesh
    }
    #expect(route() == nil)
    let workload = try Fixture.workload("reviews", node: "n2")
    compiler.put(workload)
    #expect(route() != nil)
    compiler.removeWorkload(workload.key)
    #expect(route() == nil)
  }

  @Test func `the network of an entry is a label that priorities compare`() throws {
    let text =
      Self.entry(
        """
        hosts: [vm.test]
        resolution: STATIC
        ports: [{number: 80, name: http}]
        endpoints: [{address: 10.1.1.1, network: far}, {address: 10.1.1.2, network: near}, {network: nowhere}]
        """)
      + Fixture.object(
        "DestinationRule", "d",
        spec: """
          host: vm.test
          trafficPolicy:
            outlierDetection: {}
            loadBalancer: {localityLbSetting: {failoverPriority: ['topology.istio.io/network=near']}}
          """)
    #expect(Fixture.changeSet(text).findings.allSatisfy { $0.severity != .error && $0.code != "MESH0001" })
    var compiler = try Self.compiler(text)
    let cluster = compiler.compile(revision: 1, registryVersion: 1).snapshot.cluster("outbound|80||vm.test")
    let found = (cluster?.endpoints ?? []).map { "\($0.address) \($0.priority)" }.sorted()
    #expect(found == ["10.1.1.1 1", "10.1.1.2 0"])
  }

  // MARK: Kubernetes

  @Test func `externalName of a service of the mesh is another name for it`() throws {
    let text =
      Fixture.object("Service", "a", spec: "ports: [{port: 80, name: http}]")
      + Fixture.object("Service", "b", spec: "type: ExternalName\nexternalName: a.default.svc.cluster.local")
      + Fixture.object("Service", "c", spec: "type: ExternalName\nexternalName: b.default.svc.cluster.local")
      + Fixture.object("VirtualService", "v", spec: "hosts: [web.test]\nhttp: [{route: [{destination: {host: b}}]}]")
    #expect(Fixture.changeSet(text).findings.allSatisfy { $0.code != "MESH0001" })
    var compiler = try Self.compiler(text)
    let snapshot = compiler.compile(revision: 1, registryVersion: 1).snapshot
    for name in ["a", "b", "c", "b.default.svc.cluster.local"] {
      #expect(snapshot.routes(name, 80).flatMap(\.destinations) == ["outbound|80||a.default.svc.cluster.local=1"])
    }
    let routed = snapshot.routes("web.test", 80).flatMap(\.destinations)
    #expect(routed == ["outbound|80||b.default.svc.cluster.local=1"])
    #expect(compiler.namesToResolve.isEmpty)
  }

  @Test func `externalName outside the mesh is resolved`() throws {
    let text = Fixture.object(
      "Service", "b", spec: "type: ExternalName\nexternalName: www.example.com\nports: [{port: 80, name: http}]")
    var compiler = try Self.compiler(text)
    _ = compiler.compile(revision: 1, registryVersion: 1)
    #expect(compiler.namesToResolve == ["www.example.com"])
    compiler.use(names: ["www.example.com": ["192.0.2.1"]])
    let snapshot = compiler.compile(revision: 1, registryVersion: 1).snapshot
    #expect(Self.endpoints(snapshot, "outbound|80||b.default.svc.cluster.local") == ["192.0.2.1:80"])
    #expect(snapshot.services.first { $0.name == "b" }?.isExternal == true)
  }

  @Test(arguments: [
    ("", true), ("trafficPolicy: {loadBalancer: {simple: RANDOM}}", false),
    ("trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}", true),
  ])
  func `sessionAffinity ClientIP keeps a client at one endpoint, unless a rule says how to choose`(
    policy: String, isSticky: Bool
  ) throws {
    let text =
      Fixture.object(
        "Service", "a",
        spec:
          "ports: [{port: 80, name: http}]\nsessionAffinity: ClientIP\nsessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}")
      + Fixture.object("DestinationRule", "d", spec: "host: a\n\(policy)")
    let findings = Fixture.changeSet(text).findings
    #expect(findings.allSatisfy { $0.code != "MESH0001" && $0.severity != .error })
    var compiler = try Self.compiler(text)
    let cluster = compiler.compile(revision: 1, registryVersion: 1).snapshot.cluster("outbound|80||a.default.svc.cluster.local")
    guard case .consistentHash(.sourceAddress, _) = cluster?.loadBalancer.algorithm else {
      #expect(!isSticky)
      return
    }
    #expect(isSticky)
  }
}
