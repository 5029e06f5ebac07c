/// Deliberate faults in the cores, each of which the simulation has to catch: a checker that has never failed proves nothing.
///
/// They exist only in builds with MUTATIONS defined (`make mutations`); elsewhere `mutated` is the constant false.
public enum Mutation: Int, CaseIterable, Sendable {
  /// A server grants its vote to everybody who asks in a term.
  case voteTwice
  /// A server votes for a candidate whose log lacks entries.
  case voteForWhoLacksEntries
  /// A leader commits entries that only it holds.
  case commitAlone
  /// A leader commits entries of earlier terms by counting who holds them.
  case commitEarlierTerms
  /// A follower appends without looking at what comes before.
  case appendBlindly
  /// A server says what it promises before it is on the disk.
  case promiseBeforeWriting
  /// A server whose disk took nothing goes on as if it had.
  case goOnWithoutRoom
  /// A leader changes members again before the last change is decided.
  case changeManyAtOnce
  /// Servers without a log begin a history by majority, as if no other could be there.
  case beginAnew
  /// A leader answers reads without asking whether it still leads.
  case readWithoutAsking
  /// A server whose disk lost entries votes as if it had not.
  case voteBeforeHealing
  /// A holder acts after its lease has ended.
  case actWithoutLease
  /// A role is assigned while the holder's lease runs.
  case assignEarly
  /// A holder that hands its role over goes on acting.
  case actAfterHandingOver
  /// Acts under an epoch that was replaced are not refused.
  case forgetFences
  /// Rows are taken without looking at the signature.
  case believeRows
  /// Rows are taken although newer ones of theirs are known.
  case takeOlderRows
  /// A node that is suspected says nothing.
  case neverRefute
  /// A node outside of the consensus does not pull.
  case neverPull
  /// Nobody replaces voters.
  case keepVoters
}

#if MUTATIONS
  import Synchronization

  extension Mutation {
    private static let current = Atomic<Int>(-1)
    /// The fault in force.
    public static var active: Mutation? {
      get { Mutation(rawValue: current.load(ordering: .relaxed)) }
      set { current.store(newValue?.rawValue ?? -1, ordering: .relaxed) }
    }
  }

  public func mutated(_ mutation: Mutation) -> Bool { Mutation.active == mutation }
#else
  /// False: this build has no deliberate faults.
  @inlinable @inline(__always) public func mutated(_ mutation: Mutation) -> Bool { false }
#endif
