import Primitives

extension ControlState {
  /// The state that a new cluster of one node begins with when it is restored from this one.
  ///
  /// Objects, their revisions and the addresses of services come back. Who took part does not: authorities, admitted nodes, tokens, keys
  /// and holders were the old cluster's. Epochs and indexes go on from where they were, so that none is used twice.
  ///
  /// - Parameter rewriting: what an object's bytes become in the new cluster.
  public func restored(on node: NodeName, rewriting: (ObjectKey, [UInt8]) -> [UInt8]) -> ControlState {
    var state = ControlState()
    state.applied = LogPosition(index: applied.index.next, term: applied.term.next ?? applied.term)
    state.revision = revision
    state.history = SHA256.digest(of: Array("restored".utf8) + history.bytes)
    state.configuration = ClusterConfiguration(voters: [node])
    for (key, object) in objects {
      let bytes = rewriting(key, object.bytes)
      state.objects[key] = StoredObject(bytes: bytes, created: object.created, version: object.version)
      state.objectBytes += bytes.count
    }
    for revision in revisions.all { state.revisions.append(revision.rewritten(rewriting)) }
    state.addresses = addresses
    for role in Role.allCases { state.roles[role] = RoleState(epoch: roles[role].epoch) }
    return state
  }
}

extension ConfigurationRevision {
  fileprivate func rewritten(_ rewriting: (ObjectKey, [UInt8]) -> [UInt8]) -> ConfigurationRevision {
    let changes = changes.map { change in
      Change(
        key: change.key,
        before: change.before.map {
          StoredObject(bytes: rewriting(change.key, $0.bytes), created: $0.created, version: $0.version)
        })
    }
    return ConfigurationRevision(number: number, previous: previous, author: author, changes: changes)
  }
}
