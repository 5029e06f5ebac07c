import Glibc
import Nodes
import Testing

extension ProcessTests {
  /// What kubectl's users write without thinking.
  @Suite struct KubectlHabits {
    @Test func severalKindsFoldersAndAnalysisOfWhatIsLive() throws {
      let cluster = try TestCluster(nodes: 1)
      try cluster.initialize()
      try cluster.startAll()
      try severalKinds(cluster)
      try folders(cluster)
      try sameNameInTwoGroups(cluster)
      try analysis(cluster)
      try secrets(cluster)
    }

    private static let pair = """
      apiVersion: networking.istio.io/v1
      kind: DestinationRule
      metadata: {name: pair, labels: {team: web}}
      spec: {host: pair.example.com}
      ---
      apiVersion: networking.istio.io/v1
      kind: ServiceEntry
      metadata: {name: pair, labels: {team: web}}
      spec: {hosts: [pair.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
      """

    private func apply(_ cluster: TestCluster, _ text: String) throws {
      let result = try cluster.command(["apply", "-f", "-"], input: text)
      #expect(result.status == 0, "\(result)")
    }

    private func severalKinds(_ cluster: TestCluster) throws {
      try apply(cluster, Self.pair)
      let both = try cluster.command(["get", "dr/pair", "se/pair", "-o", "name"])
      #expect(both.output == "destinationrule/pair\nserviceentry/pair\n", "\(both)")
      #expect(try cluster.command(["get", "dr,se", "pair", "-o", "name"]).output == both.output)
      let missing = try cluster.command(["get", "dr/pair", "se/none", "-o", "name"])
      #expect(missing.status == 1 && missing.output == "destinationrule/pair\n", "\(missing)")
      #expect(missing.errors.contains("there is no se 'none' in namespace default"), "\(missing)")
      #expect(try cluster.command(["get", "dr/pair", "pair"]).status == 2)
      let misspelt = try cluster.command(["get", "destinationrul"])
      #expect(misspelt.errors.contains("did you mean 'destinationrule'?"), "\(misspelt)")
      #expect(
        try cluster.command(["delete", "dr,se", "-l", "team=web", "--dry-run"]).output.contains("serviceentry/pair deleted"))
      #expect(try cluster.command(["delete", "dr,se", "pair"]).status == 0)
      #expect(try cluster.command(["get", "dr,se", "-l", "team=web", "-o", "name"]).output == "")
    }

    private func folders(_ cluster: TestCluster) throws {
      let folder = cluster.directory + "/tree"
      for path in [folder, "\(folder)/inside"] { #expect(mkdir(path, 0o700) == 0) }
      try write(Self.pair, to: "\(folder)/inside/pair.yaml")
      #expect(try cluster.command(["apply", "-f", folder]).errors.contains("no *.yaml"))
      #expect(try cluster.command(["apply", "-R", "-f", folder]).status == 0)
      #expect(try cluster.command(["delete", "-R", "-f", folder]).status == 0)
    }

    /// `-o name` gives names that mean the same object again.
    private func sameNameInTwoGroups(_ cluster: TestCluster) throws {
      let gateways = """
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {name: edge}
        spec: {gatewayClassName: istio, listeners: [{name: a, port: 18999, protocol: HTTP}]}
        ---
        apiVersion: networking.istio.io/v1
        kind: Gateway
        metadata: {name: edge}
        spec: {selector: {no: body}, servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: ['*']}]}
        ---
        apiVersion: v1
        kind: Namespace
        metadata: {name: far}
        """
      let applied = try cluster.command(["apply", "-f", "-"], input: gateways)
      #expect(applied.output.contains("namespace/far created\n"), "\(applied)")
      let names = try cluster.command(["get", "gtw/edge", "gw/edge", "-o", "name"]).output
      #expect(names == "gateway.gateway.networking.k8s.io/edge\ngateway/edge\n")
      for name in names.split(separator: "\n") {
        #expect(try cluster.command(["delete", String(name)]).output.contains("\(name) deleted"))
      }
      #expect(try cluster.command(["delete", "ns", "far"]).status == 0)
    }

    private func analysis(_ cluster: TestCluster) throws {
      let policy = """
        apiVersion: security.istio.io/v1
        kind: PeerAuthentication
        metadata: {name: strict}
        spec: {mtls: {mode: STRICT}}
        ---
        apiVersion: networking.istio.io/v1
        kind: Gateway
        metadata: {name: edge}
        spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 18998, name: a, protocol: HTTP}, hosts: ['*']}]}
        """
      try apply(cluster, policy)
      let live = try cluster.command(["analyze"])
      #expect(live.output.contains("[MESH0001] (PeerAuthentication default/strict live"), "\(live)")
      #expect(!live.output.contains("IST0162"), "\(live)")
      let both = try cluster.command(["analyze", "--live", "-f", "-"], input: policy)
      #expect(both.output.components("MESH0001") == 1 && !both.output.contains("IST0145"), "\(both)")
      #expect(try cluster.command(["analyze", "-n", "other"]).output.contains("No validation issues"))
      #expect(try cluster.command(["analyze", "-A"]).output.contains("MESH0001"))
      #expect(try cluster.command(["delete", "-f", "-"], input: policy).status == 0)
    }

    /// What is printed without the Secrets applies where they are not.
    private func secrets(_ cluster: TestCluster) throws {
      let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: hidden}\nstringData: {password: hunter2}\n---\n"
      let rule = TestConfiguration.rule("plain")
      try apply(cluster, secret + rule)
      let whole = try cluster.command(["export"]).output
      let rest = try cluster.command(["export", "--without-secrets"]).output
      #expect(whole.contains("kind: Secret") && !whole.contains("hunter2") && !rest.contains("kind: Secret"))
      #expect(try cluster.command(["delete", "-f", "-"], input: secret + rule).status == 0)
      let refused = try cluster.command(["apply", "-f", "-"], input: whole)
      #expect(refused.status == 1 && refused.errors.contains("were left out when this was printed"), "\(refused)")
      try apply(cluster, rest)
      #expect(try cluster.command(["export"]).output == rest)
    }
  }
}

extension String {
  /// How often another stands in it.
  fileprivate func components(_ other: String) -> Int { ranges(of: other).count }
}
