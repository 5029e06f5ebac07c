import Glibc
import MeshConfig
import Primitives
import Proxy
import Telemetry
import Testing
import Transport

/// Opaque connections between two nodes: CONNECT streams on one HTTP/2 connection with both identities.
@Suite("HBONE", .serialized) struct HBONETests {
  private struct Nodes {
    let near: ProxyRuntime
    let far: ProxyRuntime
    let port: UInt16

    func stop() async {
      await near.stop()
      await far.stop()
    }
  }

  /// The client's node forwards one port to an application behind the server's node.
  private func nodes(_ application: UInt16, asking asked: UInt16? = nil) async throws -> Nodes {
    let authority = try MeshHopTests.Authority("n1")
    let bundle = try MeshHopTests.bundle(authority)
    let server = MeshHopTests.server(application, try authority.identity("reviews", bundle: bundle))
    let far = try ProxyRuntime(workers: 1, serving: server)
    let meshPort = await far.publish(server).address(of: .meshInbound)?.port ?? 0
    let route = Endpoint.MeshRoute(
      address: "127.0.0.1", port: meshPort, serverName: "\(application).reviews-v1.default.workload.mesh",
      identity: TestMesh.identity("reviews"))
    let endpoint = TestMesh.endpoint(asked ?? application, mesh: route, workload: 1)
    var mesh = TestMesh.database([endpoint])
    mesh.workloads.append(TestMesh.facts("reviews-v1", "default", "reviews", node: "n2"))
    let client = ProxyState(
      snapshot: mesh.snapshot, listeners: [ProxyListener(TestMesh.forward, on: .ip(.loopback, port: 0))],
      identities: ProxyIdentities(["default/client@n1": try authority.identity("client", bundle: bundle)]))
    let near = try ProxyRuntime(workers: 1, serving: client)
    let port = await near.publish(client).address(of: TestMesh.forward)?.port ?? 0
    return Nodes(near: near, far: far, port: port)
  }

  private func label(_ name: String, _ statistics: ProxyStatistics) -> [String] {
    guard let family = statistics.metrics.first(where: { $0.name == "istio_tcp_connections_closed_total" }),
      let at = family.labelNames.firstIndex(of: name)
    else { return [] }
    return family.series.map { $0.labelValues[at] }
  }

  @Test func `connections share one mesh connection, carry both identities, and are counted on both sides`() async throws {
    let origin = Origin.echo()
    let nodes = try await nodes(origin.port)
    let port = nodes.port
    let echoes = await blocking { () -> [Bool] in
      let wires = (0..<10).map { _ in Wire.connect(port: port) }
      let block = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
      return wires.enumerated().map { index, wire in
        wire.send([UInt8(index)] + block)
        wire.endSending()
        return wire.receive(count: block.count + 2) == [UInt8(index)] + block
      }
    }
    #expect(echoes == Array(repeating: true, count: 10))
    var (near, far) = (await nodes.near.statistics(), await nodes.far.statistics())
    for _ in 0..<400 where near.openConnections > 0 || MeshTestStatistics.total(far, "istio_tcp_connections_closed_total") < 10
    {
      try await Task.sleep(for: .milliseconds(5))
      (near, far) = (await nodes.near.statistics(), await nodes.far.statistics())
    }
    #expect(far.counters.connectionsAccepted == 1)
    for statistics in [near, far] {
      #expect(MeshTestStatistics.total(statistics, "istio_tcp_connections_opened_total") == 10)
      #expect(MeshTestStatistics.total(statistics, "istio_tcp_connections_closed_total") == 10)
      #expect(MeshTestStatistics.total(statistics, "istio_tcp_received_bytes_total") == 2_000_010)
      #expect(MeshTestStatistics.total(statistics, "istio_tcp_sent_bytes_total") == 2_000_010)
    }
    #expect(label("reporter", near) == ["source"])
    #expect(label("reporter", far) == ["destination"])
    #expect(label("source_workload", far) == ["client"])
    #expect(label("source_principal", far) == ["spiffe://cluster.local/ns/default/sa/client"])
    #expect(label("destination_workload", far) == ["reviews-v1"])
    #expect(label("connection_security_policy", far) == ["mutual_tls"])
    await nodes.stop()
  }

  @Test func `a server that speaks first and a half-closed client work over the hop`() async throws {
    let origin = Origin { _, wire in
      wire.send("hello\n")
      let said = wire.receiveAll()
      wire.send("you said \(said)")
    }
    let nodes = try await nodes(origin.port)
    let port = nodes.port
    let heard = await blocking { () -> [String] in
      let wire = Wire.connect(port: port)
      let banner = wire.receive(until: "\n")
      wire.send("enough")
      wire.endSending()
      return [banner, wire.receiveAll()]
    }
    #expect(heard == ["hello\n", "you said enough"])
    await nodes.stop()
  }

  @Test func `a slow reader holds its sender back across the hop`() async throws {
    let origin = Origin { _, wire in
      let block = [UInt8](repeating: 7, count: 1 << 20)
      for _ in 0..<24 { guard wire.send(block) else { return } }
    }
    let nodes = try await nodes(origin.port)
    let port = nodes.port
    let count = await blocking { () -> Int in
      let wire = Wire.connect(port: port)
      _ = wire.hasBytes(within: 5_000)
      poll(nil, 0, 100)
      return wire.receive(count: 25 << 20).count
    }
    #expect(count == 24 << 20)
    await nodes.stop()
  }

  @Test func `an application that is away ends the connection, and its address is not lent to others`() async throws {
    let away = try await nodes(closedPort())
    let awayPort = away.port
    #expect(await blocking { Wire.connect(port: awayPort).receiveAll() } == "")
    await away.stop()
    let origin = Origin.echo()
    // The authority names a port of the address that is no port of the workload.
    let foreign = try await nodes(closedPort(), asking: origin.port)
    let port = foreign.port
    let heard = await blocking { () -> String in
      let wire = Wire.connect(port: port)
      wire.send("let me in.")
      return wire.receiveAll()
    }
    #expect(heard == "")
    #expect(origin.connections == 0)
    await foreign.stop()
  }
}
