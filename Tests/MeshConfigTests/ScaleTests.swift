import Primitives
import Testing

@testable import MeshConfig

@Suite struct ScaleTests {
  @Test func `a thousand services with ten thousand endpoints compile to what was written`() throws {
    var text = ""
    var workloads: [WorkloadRecord] = []
    for index in 0..<1000 {
      text += Fixture.object(
        "Service", "s\(index)", spec: "selector: {app: s\(index)}\nports: [{name: http, port: 80, targetPort: 9080}]")
      for replica in 0..<10 { workloads.append(try Fixture.workload("s\(index)", "v\(replica)", node: "n\(replica)")) }
    }
    let objects = Fixture.stored(text)
    let settings = try Fixture.settings()
    let clock = ContinuousClock()
    let start = clock.now
    let (snapshot, findings) = MeshSnapshot.compile(
      revision: 1, registryVersion: 1, objects: objects, workloads: workloads, settings: settings)
    print("compiled 1000 services in", clock.now - start)
    #expect(findings.isEmpty)
    #expect(snapshot.services.count == 1000)
    #expect(snapshot.clusters.count == 1001)
    #expect(snapshot.clusters.allSatisfy { $0.service == nil || $0.endpoints.count == 10 })
  }
}
