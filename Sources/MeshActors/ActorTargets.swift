import Transport

/// The remote calls that each actor takes, by the compiler's names: a call to anything else is refused before it runs.
///
/// Checked in, so that a rename or a changed signature is a reviewed difference; a test compares it with what calls send.
enum ActorTargets {
  static let config: [MeshTarget] = []
  static let certificateAuthority: [MeshTarget] = []
  static let discovery: [MeshTarget] = []
  static let proxy: [MeshTarget] = []
}
