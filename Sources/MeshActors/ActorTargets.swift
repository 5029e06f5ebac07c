import Transport

/// The remote calls that each actor takes, by the compiler's names: a call to anything else is refused before it runs.
///
/// Checked in, so that a rename or a changed signature is a reviewed difference; a test compares it with what calls send.
enum ActorTargets {
  static let config = [
    // submit(_:); waits for a majority, so others do not wait for it.
    MeshTarget("$s10MeshActors11ConfigActorC6submityAA0C5ReplyVAA0C6ChangeVYaKFTE", order: .concurrent) {
      (actor: ConfigActor, change: ConfigChange) in try await actor.submit(change)
    },
    // propose(_:)
    MeshTarget("$s10MeshActors11ConfigActorC7proposeyAA13ProposalReplyVSays5UInt8VGYaKFTE", order: .concurrent) {
      (actor: ConfigActor, command: [UInt8]) in try await actor.propose(command)
    },
    // decidedRevision(); waits for a majority.
    MeshTarget("$s10MeshActors11ConfigActorC15decidedRevisions6UInt64VyYaKFTE", order: .concurrent) {
      (actor: ConfigActor) in try await actor.decidedRevision()
    },
    // secretsKey()
    MeshTarget("$s10MeshActors11ConfigActorC10secretsKeySays5UInt8VGyYaKFTE") {
      (actor: ConfigActor) in try await actor.secretsKey()
    },
  ]
  static let certificateAuthority = [
    // issueNodeCertificate(request:)
    MeshTarget(
      "$s10MeshActors25CertificateAuthorityActorC09issueNodeC07requestAA06IssuedC0VSays5UInt8VG_tYaKFTE"
    ) { (actor: CertificateAuthorityActor, request: [UInt8]) in try await actor.issueNodeCertificate(request: request) },
    // issueWorkloadCertificate(request:row:)
    MeshTarget(
      "$s10MeshActors25CertificateAuthorityActorC013issueWorkloadC07request3rowAA06IssuedC0VSays5UInt8VG_AKtYaKFTE"
    ) { (actor: CertificateAuthorityActor, request: [UInt8], row: [UInt8]) in
      try await actor.issueWorkloadCertificate(request: request, row: row)
    },
  ]
  static let discovery = [
    // registryDigest()
    MeshTarget("$s10MeshActors14DiscoveryActorC14registryDigests6UInt64VyYaKFTE") {
      (actor: DiscoveryActor) in try await actor.registryDigest()
    }
  ]
  static let proxy = [
    // awaitServing(revision:); waits long.
    MeshTarget(
      "$s10MeshActors10ProxyActorC12awaitServing8revisions6UInt64VAG_tYaKFTE", order: .concurrent
    ) { (actor: ProxyActor, revision: UInt64) in try await actor.awaitServing(revision: revision) },
    // awaitRouting(row:); waits until news has come.
    MeshTarget(
      "$s10MeshActors10ProxyActorC12awaitRouting3rowySays5UInt8VG_tYaKFTE", order: .concurrent
    ) { (actor: ProxyActor, row: [UInt8]) in try await actor.awaitRouting(row: row) },
    // servedRevision()
    MeshTarget("$s10MeshActors10ProxyActorC14servedRevisions6UInt64VyYaKFTE") { (actor: ProxyActor) in
      try await actor.servedRevision()
    },
  ]
}
