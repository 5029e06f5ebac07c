import Testing
import Transport

@testable import MeshActors

/// The checked-in lists of remote calls are what calls really send: a rename is a reviewed difference, not a broken cluster.
@Suite struct ActorTargetsTests {
  private func signatures(_ targets: [MeshTarget]) -> Set<MeshTarget.Signature> { Set(targets.map(\.signature)) }

  @Test func `the targets of ConfigActor are the calls it takes`() async throws {
    let recorded = try await ConfigActor.recordTargets { actor in
      _ = try? await actor.submit(ConfigChange(namespace: "default", author: "test", requestHigh: 0, requestLow: 0))
      _ = try? await actor.propose([])
      _ = try? await actor.decidedRevision()
      _ = try? await actor.secretsKey()
    }
    #expect(Set(recorded) == signatures(ConfigActor.targets))
  }

  @Test func `the targets of CertificateAuthorityActor are the calls it takes`() async throws {
    let recorded = try await CertificateAuthorityActor.recordTargets { actor in
      _ = try? await actor.issueNodeCertificate(request: [])
      _ = try? await actor.issueWorkloadCertificate(request: [], row: [])
    }
    #expect(Set(recorded) == signatures(CertificateAuthorityActor.targets))
  }

  @Test func `the targets of DiscoveryActor are the calls it takes`() async throws {
    let recorded = try await DiscoveryActor.recordTargets { actor in _ = try? await actor.registryDigest() }
    #expect(Set(recorded) == signatures(DiscoveryActor.targets))
  }

  @Test func `the targets of ProxyActor are the calls it takes`() async throws {
    let recorded = try await ProxyActor.recordTargets { actor in
      _ = try? await actor.awaitServing(revision: 1)
      try? await actor.awaitRouting(row: [])
      _ = try? await actor.servedRevision()
    }
    #expect(Set(recorded) == signatures(ProxyActor.targets))
  }
}
