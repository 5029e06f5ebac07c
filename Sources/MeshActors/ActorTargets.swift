import Transport

/// The remote calls that each actor takes, by the compiler's names: a call to anything else is refused before it runs.
///
/// Checked in, so that a rename or a changed signature is a reviewed difference; a test compares it with what calls send.
enum ActorTargets {
  static let config = [
    // submit(_:); waits for a majority, so others do not wait for it.
    MeshTarget("$s10MeshActors11ConfigActorC6submityAA0C5ReplyVAA0C6ChangeVYaKFTE", arguments: 1, order: .concurrent),
    // propose(_:)
    MeshTarget("$s10MeshActors11ConfigActorC7proposeyAA13ProposalReplyVSays5UInt8VGYaKFTE", arguments: 1, order: .concurrent),
    // decidedRevision(); waits for a majority.
    MeshTarget("$s10MeshActors11ConfigActorC15decidedRevisions6UInt64VyYaKFTE", arguments: 0, order: .concurrent),
    // secretsKey()
    MeshTarget("$s10MeshActors11ConfigActorC10secretsKeySays5UInt8VGyYaKFTE", arguments: 0),
  ]
  static let certificateAuthority = [
    // issueNodeCertificate(request:)
    MeshTarget(
      "$s10MeshActors25CertificateAuthorityActorC09issueNodeC07requestAA06IssuedC0VSays5UInt8VG_tYaKFTE", arguments: 1),
    // issueWorkloadCertificate(request:row:)
    MeshTarget(
      "$s10MeshActors25CertificateAuthorityActorC013issueWorkloadC07request3rowAA06IssuedC0VSays5UInt8VG_AKtYaKFTE",
      arguments: 2),
  ]
  static let discovery = [
    // registryDigest()
    MeshTarget("$s10MeshActors14DiscoveryActorC14registryDigests6UInt64VyYaKFTE", arguments: 0)
  ]
  static let proxy = [
    // awaitServing(revision:); waits long.
    MeshTarget(
      "$s10MeshActors10ProxyActorC12awaitServing8revisions6UInt64VAG_tYaKFTE", arguments: 1, order: .concurrent),
    // awaitRouting(row:); waits until news has come.
    MeshTarget(
      "$s10MeshActors10ProxyActorC12awaitRouting3rowySays5UInt8VG_tYaKFTE", arguments: 1, order: .concurrent),
    // servedRevision()
    MeshTarget("$s10MeshActors10ProxyActorC14servedRevisions6UInt64VyYaKFTE", arguments: 0),
  ]
}
