import Primitives
import Testing

@testable import MeshConfig

@Suite struct CompileTests {
  private let reviews = """
    hosts: [reviews]
    http:
    - match:
      - headers: {end-user: {exact: jason}}
      route:
      - destination: {host: reviews, subset: v2}
    - route:
      - destination: {host: reviews, subset: v1}
        weight: 80
      - destination: {host: reviews, subset: v3}
        weight: 20
      - destination: {host: reviews, subset: v2}
        weight: 0
    """
  private let subsets = """
    host: reviews
    subsets:
    - {name: v1, labels: {version: v1}}
    - {name: v2, labels: {version: v2}}
    - {name: v3, labels: {version: v3}}
    """

  private func reviewsWorkloads() throws -> [WorkloadRecord] {
    [
      try Fixture.workload("productpage"), try Fixture.workload("reviews", "v1", node: "n2"),
      try Fixture.workload("reviews", "v2", node: "n2"), try Fixture.workload("reviews", "v3", node: "n3"),
    ]
  }

  @Test func `routes split over subsets and drop zero weights`() throws {
    let text =
      Fixture.object("DestinationRule", "reviews", spec: subsets) + Fixture.object("VirtualService", "reviews", spec: reviews)
    let (snapshot, findings) = try Fixture.compile(text, reviewsWorkloads())
    #expect(findings.isEmpty)
    let routes = snapshot.routes("reviews", 9080)
    #expect(routes.count == 2)
    #expect(routes[0].destinations == ["outbound|9080|v2|reviews.default.svc.cluster.local=1"])
    #expect(
      routes[1].destinations == [
        "outbound|9080|v1|reviews.default.svc.cluster.local=80", "outbound|9080|v3|reviews.default.svc.cluster.local=20",
      ])
    #expect(routes[0].matches.first?.headers.count == 1)
    #expect(routes[0].retry == .istioDefault)
    let v2 = try #require(snapshot.cluster("outbound|9080|v2|reviews.default.svc.cluster.local"))
    #expect(v2.endpoints.map { snapshot.workloads[$0.workload ?? 0].version } == ["v2"])
    #expect(v2.endpoints.first?.mesh?.serverName == "9080.reviews-v2.default.workload.mesh")
    #expect(v2.endpoints.first?.isLocal == false)
    #expect(v2.destinationRule == "default/reviews")
  }

  @Test(arguments: ["reviews", "reviews.default", "reviews.default.svc", "reviews.default.svc.cluster.local"])
  func `a service answers to its short and long names`(host: String) throws {
    let (snapshot, _) = try Fixture.compile("", reviewsWorkloads())
    #expect(snapshot.routes(host, 9080).first?.name == "default")
  }

  @Test func `short names resolve in the namespace of the rule`() throws {
    let spec = "hosts: [reviews.default.svc.cluster.local]\nhttp:\n- route:\n  - destination: {host: ratings}\n"
    let text = Fixture.object("VirtualService", "reviews", namespace: "other", spec: spec)
    let (snapshot, findings) = try Fixture.compile(text, reviewsWorkloads())
    let route = try #require(snapshot.routes("reviews", 9080).first)
    #expect(route.destinations == ["outbound|9080||ratings.other.svc.cluster.local=1!"])
    #expect(findings.contains { $0.reason.contains("503 NC") })
  }

  @Test func `a lone destination with weight zero gets everything`() throws {
    let spec = "hosts: [reviews]\nhttp:\n- route:\n  - destination: {host: reviews}\n    weight: 0\n"
    let (snapshot, _) = try Fixture.compile(Fixture.object("VirtualService", "r", spec: spec), reviewsWorkloads())
    #expect(snapshot.routes("reviews", 9080).first?.destinations == ["outbound|9080||reviews.default.svc.cluster.local=1"])
  }

  @Test func `percentages absent mean no fault and a full mirror`() throws {
    let spec = """
      hosts: [reviews]
      http:
      - fault:
          delay: {fixedDelay: 7s}
          abort: {httpStatus: 500, percentage: {value: 0.0001}}
        mirror: {host: reviews}
        route:
        - destination: {host: reviews}
      """
    let (snapshot, _) = try Fixture.compile(Fixture.object("VirtualService", "r", spec: spec), reviewsWorkloads())
    let route = try #require(snapshot.routes("reviews", 9080).first)
    #expect(route.fault?.delayPartsPerMillion == 0)
    #expect(route.fault?.delayDuration == .seconds(7))
    #expect(route.fault?.abortPartsPerMillion == 1)
    #expect(route.mirrors.map(\.partsPerMillion) == [1_000_000])
  }

  @Test func `source labels are ignored once a match lists gateways`() throws {
    let spec = """
      hosts: [reviews]
      http:
      - name: listed
        match: [{gateways: [mesh], sourceLabels: {app: nobody}}]
        route: [{destination: {host: reviews}}]
      - name: labelled
        match: [{sourceLabels: {app: nobody}}, {port: 1}, {sourceNamespace: other}]
        route: [{destination: {host: reviews}}]
      - name: mine
        match: [{sourceLabels: {app: productpage}, sourceNamespace: default, port: 9080}]
        route: [{destination: {host: reviews}}]
      """
    let (snapshot, _) = try Fixture.compile(Fixture.object("VirtualService", "r", spec: spec), reviewsWorkloads())
    #expect(snapshot.routes("reviews", 9080).map(\.name) == ["listed", "mine"])
  }

  @Test func `an unregistered host is honoured on port 80 only`() throws {
    let spec = "hosts: [api.example.com]\nhttp:\n- route: [{destination: {host: reviews, port: {number: 9080}}}]\n"
    let (snapshot, _) = try Fixture.compile(Fixture.object("VirtualService", "r", spec: spec), reviewsWorkloads())
    #expect(snapshot.routes("api.example.com", 80).count == 1)
    #expect(snapshot.routes("api.example.com", 9080).isEmpty)
  }

  @Test func `the oldest mesh rule for a host wins and the other is reported`() throws {
    func rule(_ name: String) -> String {
      let spec = "hosts: [reviews]\nhttp:\n- name: \(name)\n  route: [{destination: {host: reviews}}]\n"
      return Fixture.object("VirtualService", name, spec: spec)
    }
    let (snapshot, findings) = try Fixture.compile(rule("zz") + rule("aa"), reviewsWorkloads())
    #expect(snapshot.routes("reviews", 9080).map(\.name) == ["zz"])
    #expect(findings.map(\.code) == ["IST0109"])
  }

  @Test func `the most specific rule host takes a service`() throws {
    func rule(_ name: String, _ host: String) -> String {
      let spec = "hosts: ['\(host)']\nhttp:\n- name: \(name)\n  route: [{destination: {host: reviews}}]\n"
      return Fixture.object("VirtualService", name, spec: spec)
    }
    let text = rule("wide", "*.cluster.local") + rule("narrow", "*.default.svc.cluster.local")
    let (snapshot, _) = try Fixture.compile(text, reviewsWorkloads())
    #expect(snapshot.routes("reviews", 9080).map(\.name) == ["narrow"])
  }

  private let gateway = """
    selector: {istio: ingressgateway}
    servers:
    - port: {number: 8080, name: http, protocol: HTTP}
      hosts: ['*']
    """

  @Test func `gateway rules for one host are concatenated with catch-alls last`() throws {
    func rule(_ name: String, _ match: String) -> String {
      let spec = "hosts: ['*']\ngateways: [gw]\nhttp:\n- name: \(name)\n\(match)  route: [{destination: {host: reviews}}]\n"
      return Fixture.object("VirtualService", name, spec: spec)
    }
    let text =
      Fixture.object("Gateway", "gw", spec: gateway) + rule("all", "  match: [{uri: {prefix: /}}]\n")
      + rule("one", "  match: [{uri: {exact: /productpage}}]\n") + rule("bare", "")
    let ingress = try Fixture.workload(nil, labels: ["istio": "ingressgateway"], isGateway: true)
    let (snapshot, _) = try Fixture.compile(text, reviewsWorkloads() + [ingress])
    let listener = try #require(snapshot.gateways.first)
    #expect(listener.port == 8080)
    #expect(listener.table.routes("anything", 8080).map(\.name) == ["one", "all", "bare"])
    #expect(snapshot.localWorkloads[listener.localWorkload].isGateway)
    #expect(snapshot.routes("reviews", 9080).map(\.name) == ["default"])
  }

  @Test func `only the alternatives that match everything move last`() throws {
    let spec = """
      hosts: ['*']
      gateways: [gw]
      http:
      - name: mixed
        match: [{uri: {exact: /a}}, {uri: {prefix: /}}]
        route: [{destination: {host: reviews}}]
      - name: later
        match: [{uri: {exact: /b}}]
        route: [{destination: {host: reviews}}]
      """
    let ingress = try Fixture.workload(nil, labels: ["istio": "ingressgateway"], isGateway: true)
    let text = Fixture.object("Gateway", "gw", spec: gateway) + Fixture.object("VirtualService", "v", spec: spec)
    let (snapshot, _) = try Fixture.compile(text, reviewsWorkloads() + [ingress])
    #expect(snapshot.gateways.first?.table.routes("x", 8080).map(\.name) == ["mixed", "later", "mixed"])
  }

  @Test func `a gateway server with a namespace admits rules of that namespace only`() throws {
    let servers = gateway.replacingStar(with: "prod/*.example.com")
    let spec =
      "hosts: [a.example.com]\ngateways: [default/gw]\nhttp:\n- route: [{destination: {host: reviews.default.svc.cluster.local}}]\n"
    let ingress = try Fixture.workload(nil, labels: ["istio": "ingressgateway"], isGateway: true)
    for (namespace, count) in [("prod", 1), ("default", 0)] {
      let text =
        Fixture.object("Gateway", "gw", spec: servers)
        + Fixture.object("VirtualService", "r", namespace: namespace, spec: spec)
      let (snapshot, _) = try Fixture.compile(text, reviewsWorkloads() + [ingress])
      #expect(snapshot.gateways.first?.table.routes("a.example.com", 8080).count == count)
    }
  }

  @Test func `servers with other addresses, or sockets, share nothing`() throws {
    func server(_ name: String, _ port: Int, _ bind: String) -> String {
      "- {port: {number: \(port), name: \(name), protocol: HTTP}, hosts: [\(name).com], bind: '\(bind)'}\n"
    }
    let servers =
      "selector: {istio: ingressgateway}\nservers:\n" + server("a", 0, "unix:///run/a.sock") + server("b", 0, "unix://@b")
      + server("c", 80, "127.0.0.1") + server("d", 80, "192.0.2.1") + server("e", 0, "unix:///run/a.sock")
    let rules = ["a", "b", "c", "d", "e"].map { name in
      let spec = "hosts: [\(name).com]\ngateways: [gw]\nhttp:\n- name: \(name)\n  route: [{destination: {host: reviews}}]"
      return Fixture.object("VirtualService", name, spec: spec)
    }.joined()
    let text = Fixture.object("Gateway", "gw", spec: servers)
    #expect(Fixture.changeSet(text).findings.isEmpty)
    let ingress = try Fixture.workload(nil, labels: ["istio": "ingressgateway"], isGateway: true)
    let (snapshot, findings) = try Fixture.compile(text + rules, reviewsWorkloads() + [ingress])
    // The node's own address is what a port without one opens.
    #expect(snapshot.gateways.map(\.place.name) == ["unix:///run/a.sock", "unix://@b", "80", "192.0.2.1:80"])
    let hosts = snapshot.gateways.map { listener in
      ["a", "b", "c", "d", "e"].filter { !listener.table.routes("\($0).com", listener.port).isEmpty }
    }
    #expect(hosts == [["a", "e"], ["b"], ["c"], ["d"]])
    #expect(findings.allSatisfy { $0.code != Finding.Code.conflictingGateways })
  }

  @Test func `a gateway's port is translated by its Service`() throws {
    let service = "selector: {istio: ingressgateway}\nports: [{name: http2, port: 80, targetPort: 8080}]"
    let servers = gateway.replacingPort(with: "80")
    let ingress = try Fixture.workload(nil, labels: ["istio": "ingressgateway"], isGateway: true)
    let text = Fixture.object("Gateway", "gw", spec: servers) + Fixture.object("Service", "ingress", spec: service)
    #expect(try Fixture.compile(text, [ingress]).snapshot.gateways.map(\.port) == [8080])
    #expect(
      try Fixture.compile(Fixture.object("Gateway", "gw", spec: servers), [ingress]).snapshot.gateways.map(\.port) == [80])
  }

  @Test func `destination rule levels do not inherit`() throws {
    let own = "host: reviews.default.svc.cluster.local\nsubsets: [{name: v1, labels: {version: v1}}]"
    let root = "host: '*.default.svc.cluster.local'\ntrafficPolicy: {loadBalancer: {simple: RANDOM}}"
    let text =
      Fixture.object("DestinationRule", "root", namespace: "istio-system", spec: root)
      + Fixture.object("DestinationRule", "own", spec: own)
    let (snapshot, _) = try Fixture.compile(text, reviewsWorkloads())
    let name = "outbound|9080||reviews.default.svc.cluster.local"
    #expect(snapshot.cluster(name)?.loadBalancer.algorithm == .leastRequest)
    #expect(snapshot.cluster(name)?.destinationRule == "default/own")
    let only = Fixture.object("DestinationRule", "root", namespace: "istio-system", spec: root)
    #expect(try Fixture.compile(only, reviewsWorkloads()).snapshot.cluster(name)?.loadBalancer.algorithm == .random)
  }

  @Test func `port settings replace whole blocks and subsets override block by block`() throws {
    let spec = """
      host: reviews
      trafficPolicy:
        loadBalancer: {simple: RANDOM}
        connectionPool: {http: {http2MaxRequests: 5}}
        portLevelSettings:
        - port: {number: 9080}
          connectionPool: {http: {http2MaxRequests: 9}}
      subsets:
      - name: v1
        labels: {version: v1}
        trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}
      """
    let (snapshot, _) = try Fixture.compile(Fixture.object("DestinationRule", "r", spec: spec), reviewsWorkloads())
    let whole = try #require(snapshot.cluster("outbound|9080||reviews.default.svc.cluster.local"))
    #expect(whole.loadBalancer.algorithm == .leastRequest)
    #expect(whole.connectionPool.maxRequests == 9)
    let v1 = try #require(snapshot.cluster("outbound|9080|v1|reviews.default.svc.cluster.local"))
    #expect(v1.loadBalancer.algorithm == .roundRobin)
    #expect(v1.connectionPool.maxRequests == 9)
  }

  @Test func `rules for one host in one namespace merge`() throws {
    let second =
      "host: reviews\ntrafficPolicy: {loadBalancer: {simple: RANDOM}}\nsubsets: [{name: v1, labels: {version: v2}}, {name: v9}]"
    let text =
      Fixture.object("DestinationRule", "a", spec: subsets) + Fixture.object("DestinationRule", "b", spec: second)
    let (snapshot, findings) = try Fixture.compile(text, reviewsWorkloads())
    let v1 = try #require(snapshot.cluster("outbound|9080|v1|reviews.default.svc.cluster.local"))
    #expect(v1.endpoints.map { snapshot.workloads[$0.workload ?? 0].version } == ["v1"])
    #expect(v1.loadBalancer.algorithm == .random)
    #expect(snapshot.cluster("outbound|9080|v9|reviews.default.svc.cluster.local")?.endpoints.count == 3)
    #expect(findings.contains { $0.reason.contains("subset 'v1' is ignored") })
  }

  @Test func `a rule with a workload selector applies to those clients alone`() throws {
    let spec =
      "host: reviews\nworkloadSelector: {matchLabels: {app: productpage}}\ntrafficPolicy: {loadBalancer: {simple: RANDOM}}"
    let (snapshot, _) = try Fixture.compile(
      Fixture.object("DestinationRule", "r", spec: spec),
      [
        try Fixture.workload("productpage"), try Fixture.workload("reviews"),
      ])
    let clusters = snapshot.clusters.filter { $0.name == "outbound|9080||reviews.default.svc.cluster.local" }
    #expect(clusters.map(\.loadBalancer.algorithm) == [.random, .leastRequest])
  }

  @Test func `a service port finds the workload's port by number, name, target or alone`() throws {
    let service = """
      selector: {app: reviews}
      ports:
      - {name: http, port: 80, targetPort: 9080}
      - {name: admin, port: 81, targetPort: manage}
      - {name: other, port: 82}
      """
    var record = try Fixture.workload("reviews")
    record.ports = [
      WorkloadRecord.Port(name: "web", servicePort: nil, port: 9080, protocol: .http),
      WorkloadRecord.Port(name: "manage", servicePort: nil, port: 7000, protocol: .http),
    ]
    let (snapshot, _) = try Fixture.compile(Fixture.object("Service", "reviews", spec: service), [record])
    let ports = [80, 81, 82].map { number in
      snapshot.cluster("outbound|\(number)||reviews.default.svc.cluster.local")?.endpoints.map(\.port)
    }
    #expect(ports == [[9080], [7000], []])
  }

  @Test func `a ServiceEntry brings external hosts with their own resolution`() throws {
    let spec = """
      hosts: [www.example.com]
      ports:
      - {number: 80, name: http, protocol: HTTP, targetPort: 443}
      - {number: 443, name: https, protocol: HTTPS}
      resolution: DNS
      """
    let rule = "host: www.example.com\ntrafficPolicy: {tls: {mode: SIMPLE}}"
    let text = Fixture.object("ServiceEntry", "e", spec: spec) + Fixture.object("DestinationRule", "d", spec: rule)
    let (snapshot, _) = try Fixture.compile(text, [try Fixture.workload("productpage")])
    let cluster = try #require(snapshot.cluster("outbound|80||www.example.com"))
    #expect(cluster.discovery == .dns)
    #expect(cluster.endpoints.map { "\($0.address):\($0.port)" } == ["www.example.com:443"])
    #expect(
      cluster.tls == .simple(serverName: nil, subjectAltNames: [], caCertificates: nil, insecureSkipVerify: false))
    #expect(snapshot.routes("www.example.com", 80).count == 1)
    #expect(snapshot.routes("www.example.com", 443).isEmpty)
  }

  @Test func `a delegate's routes lie within its root's`() throws {
    let root = """
      hosts: [reviews]
      http:
      - match: [{uri: {prefix: /api}}]
        delegate: {name: inner}
      """
    let inner = """
      http:
      - name: users
        match: [{uri: {prefix: /api/users}}]
        route: [{destination: {host: reviews}}]
      - name: elsewhere
        match: [{uri: {prefix: /other}}]
        route: [{destination: {host: reviews}}]
      """
    let text = Fixture.object("VirtualService", "root", spec: root) + Fixture.object("VirtualService", "inner", spec: inner)
    let (snapshot, _) = try Fixture.compile(text, reviewsWorkloads())
    #expect(snapshot.routes("reviews", 9080).map(\.name) == ["users"])
  }

  @Test func `exportTo hides services and rules from other namespaces`() throws {
    let spec = "hosts: [reviews]\nexportTo: ['.']\nhttp:\n- name: private\n  route: [{destination: {host: reviews}}]\n"
    let text = Fixture.object("VirtualService", "r", spec: spec)
    let workloads = try reviewsWorkloads() + [try Fixture.workload("other", namespace: "apart")]
    let (snapshot, _) = try Fixture.compile(text, workloads)
    let index = try #require(snapshot.localWorkloads.firstIndex { snapshot.workloads[$0.workload].namespace == "apart" })
    #expect(snapshot.routes("reviews.default", 9080, workload: index).map(\.name) == ["default"])
    let own = try #require(snapshot.localWorkloads.firstIndex { snapshot.workloads[$0.workload].namespace == "default" })
    #expect(snapshot.routes("reviews", 9080, workload: own).map(\.name) == ["private"])
  }

  @Test func `the authority comes out of header operations into the rewrite`() throws {
    let spec = """
      hosts: [reviews]
      http:
      - headers:
          request:
            set: {Host: other.example, X-B: '100%%'}
            add: {x-a: '%PROTOCOL%'}
            remove: [X-C]
        route: [{destination: {host: reviews}}]
      """
    let (snapshot, _) = try Fixture.compile(Fixture.object("VirtualService", "r", spec: spec), reviewsWorkloads())
    let route = try #require(snapshot.routes("reviews", 9080).first)
    #expect(route.rewrite?.authority == Array("other.example".utf8))
    #expect(route.requestHeaders.set == [.init(name: Array("x-b".utf8), value: Array("100%".utf8))])
    #expect(route.requestHeaders.remove == [Array("x-c".utf8)])
    let added = try #require(route.requestHeaders.add.first)
    #expect(added.format != nil && added.value.elementsEqual("%PROTOCOL%".utf8), "people are shown what was written")
  }

  @Test(arguments: 0..<20)
  func `the order of inputs does not change the snapshot`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let text =
      Fixture.object("DestinationRule", "reviews", spec: subsets) + Fixture.object("VirtualService", "reviews", spec: reviews)
      + Fixture.object("Gateway", "gw", spec: gateway)
    var objects = Fixture.stored(text)
    var workloads = try reviewsWorkloads()
    func describe() throws -> String {
      let (snapshot, findings) = MeshSnapshot.compile(
        revision: 1, registryVersion: 1, objects: objects, workloads: workloads, settings: try Fixture.settings())
      return "\(snapshot.clusters) \(snapshot.services) \(snapshot.localWorkloads) \(findings)"
        + snapshot.outbound.flatMap(\.ports).map { "\($0.port) \($0.virtualHosts.map { "\($0.name) \($0.domains)" })" }.joined()
    }
    let expected = try describe()
    generator.shuffle(&objects)
    generator.shuffle(&workloads)
    #expect(try describe() == expected)
  }
}

extension String {
  fileprivate func replacingStar(with host: String) -> String { split(separator: "*").joined(separator: host) }
  fileprivate func replacingPort(with port: String) -> String { split(separator: "8080").joined(separator: port) }
}
