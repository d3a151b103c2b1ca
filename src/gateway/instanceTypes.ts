/** DatabaseInstance, its windows and its log archive, and the inputs that make and change instances. */
import { Field, Float, ID, InputType, Int, ObjectType } from 'type-graphql';
import type { Instant } from '../instant.js';
import type {
  InstanceOrigin as InstanceOriginName,
  InstanceState as InstanceStateName,
  WindowBoundary as WindowBoundaryName,
} from '../model.js';
import { InstanceOrigin, InstanceState, WindowBoundary } from './enums.js';
import { BigIntNumber, DateTime } from './scalars.js';

@ObjectType({
  description: 'A database that this service keeps recoverable: made here, adopted, or the result of a recovery.',
  simpleResolvers: true,
})
export class DatabaseInstance {
  @Field(() => ID, { description: '1 to 128 characters of A-Z a-z 0-9 . _ : -, for ever the same.' })
  id!: string;

  @Field(() => String, { description: 'What people call it; 1 to 255 characters, not necessarily unique.' })
  name!: string;

  @Field(() => InstanceOrigin, { description: 'How it came to be here, and whose it is.' })
  origin!: InstanceOriginName;

  @Field(() => String, { description: 'sqlite, postgresql, mariadb' })
  datastore!: string;

  @Field(() => String, { description: 'As the engine says it: 15.18, 10.11.19' })
  datastoreVersion!: string;

  @Field(() => String, { nullable: true, description: 'The size class a larger cloud gave it; only carried along.' })
  flavor!: string | null;

  @Field(() => Int, { nullable: true, description: 'Size of its volume in GiB; only carried along.' })
  volumeSizeGiB!: number | null;

  @Field(() => InstanceState, { description: 'What it is doing.' })
  state!: InstanceStateName;

  @Field(() => String, {
    nullable: true,
    description:
      'Where clients connect, without credentials: sqlite:///abs/file.db, postgresql://127.0.0.1:54321/postgres, mariadb://127.0.0.1:33061/',
  })
  endpoint!: string | null;

  @Field(() => String, {
    nullable: true,
    description: 'The same with credentials; null for callers who may only read.',
  })
  connectionUri!: string | null;

  @Field(() => [String], {
    description:
      'What the service does to the database, in whole sentences; for one that somebody else runs, what to know before relying on it.',
  })
  notices!: string[];

  @Field(() => DateTime, { description: 'When this service came to know it.' })
  createdAt!: Instant;

  @Field(() => DateTime, { nullable: true, description: 'When it was deleted or released; null while it is here.' })
  deletedAt!: Instant | null;

  /** Not in the schema: what the nested fields are looked up by. */
  recoveredFromId!: string | null;
  createdByRecoveryId!: string | null;
}

@ObjectType({
  description: 'A stretch of time, ends included, any instant of which can be recovered to.',
  simpleResolvers: true,
})
export class RecoveryWindow {
  @Field(() => DateTime, { description: 'The first recoverable instant: the end of a backup, never its start.' })
  from!: Instant;

  @Field(() => DateTime, { description: 'The last recoverable instant.' })
  to!: Instant;

  @Field(() => WindowBoundary, { description: 'Why nothing before it can be recovered.' })
  startsBecause!: WindowBoundaryName;

  @Field(() => WindowBoundary, { description: 'Why nothing after it can be recovered.' })
  endsBecause!: WindowBoundaryName;
}

@ObjectType({ description: 'The archived log of an instance, and how well it is kept up with.', simpleResolvers: true })
export class LogArchive {
  @Field(() => Int, { description: 'How many pieces of log are kept.' })
  segments!: number;

  @Field(() => BigIntNumber, { description: 'Their size in storage, in bytes.' })
  bytes!: number;

  @Field(() => Float, {
    nullable: true,
    description: 'How far behind the source the archive is, in seconds; null while the source is down.',
  })
  lagSeconds!: number | null;

  @Field(() => BigIntNumber, {
    nullable: true,
    description:
      'Bytes of log that the source keeps because they are not archived yet; null while it is down, and for datastores that keep none.',
  })
  retainedBytes!: number | null;

  @Field(() => Boolean, { description: 'Whether the log is being kept without a break.' })
  healthy!: boolean;

  @Field(() => String, {
    nullable: true,
    description:
      'What is wrong and what to do, when it is not healthy; also when it is and something should be known, as of a reader that keeps a SQLite log from shrinking.',
  })
  message!: string | null;
}

const newIdDescription =
  'The id a larger cloud already uses for it, 1 to 128 characters of A-Z a-z 0-9 . _ : -; refused with INSTANCE_EXISTS if taken; made up where left out.';

@InputType({
  description: '`id`: the id a larger cloud already uses for it; refused if taken; made up where left out.',
})
export class CreateInstanceInput {
  @Field(() => ID, { nullable: true, description: newIdDescription })
  id?: string | null;

  @Field(() => String, { description: 'What people call it: 1 to 255 characters, no control characters.' })
  name!: string;

  @Field(() => String, { description: 'sqlite, postgresql, mariadb' })
  datastore!: string;

  @Field(() => String, {
    nullable: true,
    description:
      'The version wanted, of PostgreSQL also just its major; refused with DATASTORE_NOT_SUPPORTED where it is not at hand. ' +
      'The newest at hand where left out.',
  })
  datastoreVersion?: string | null;

  @Field(() => String, { nullable: true, description: 'A size class, only carried along; 1 to 255 characters.' })
  flavor?: string | null;

  @Field(() => Int, { nullable: true, description: 'Size of the volume in GiB, at least 1; only carried along.' })
  volumeSizeGiB?: number | null;
}

@InputType({ description: 'Adopts a database that already runs: a postgresql://, mariadb:// or sqlite:/// URI.' })
export class RegisterInstanceInput {
  @Field(() => ID, { nullable: true, description: newIdDescription })
  id?: string | null;

  @Field(() => String, { description: 'What people call it: 1 to 255 characters, no control characters.' })
  name!: string;

  @Field(() => String, { description: 'sqlite, postgresql, mariadb' })
  datastore!: string;

  @Field(() => String, { description: 'How this service reaches it, with credentials; kept sealed.' })
  connectionUri!: string;

  @Field(() => String, { nullable: true, description: 'A size class, only carried along; 1 to 255 characters.' })
  flavor?: string | null;

  @Field(() => Int, { nullable: true, description: 'Size of the volume in GiB, at least 1; only carried along.' })
  volumeSizeGiB?: number | null;
}

@InputType({ description: 'Only what is given changes.' })
export class UpdateInstanceInput {
  @Field(() => String, { nullable: true, description: 'A new name: 1 to 255 characters, no control characters.' })
  name?: string | null;

  @Field(() => String, {
    nullable: true,
    description: 'A rotated password or a moved host; it must lead to the same database.',
  })
  connectionUri?: string | null;

  @Field(() => String, { nullable: true, description: 'Another size class; null takes it away.' })
  flavor?: string | null;
}
