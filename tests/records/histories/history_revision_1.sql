BEGIN TRANSACTION;
CREATE TABLE probe_assertion_sets (
	id BIGINT NOT NULL, 
	content JSON NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "probe_assertion_sets" VALUES(1657301148831383757,'[{"name":"status_is_200","held":true,"otherwise":"down"},{"name":"canary_answered","held":true,"otherwise":"degraded"}]');
CREATE TABLE probe_hours (
	target TEXT NOT NULL, 
	hour_unix_s BIGINT NOT NULL, 
	location TEXT NOT NULL, 
	check_name TEXT NOT NULL, 
	maintenance SMALLINT NOT NULL, 
	up BIGINT NOT NULL, 
	degraded BIGINT NOT NULL, 
	inconclusive BIGINT NOT NULL, 
	payment BIGINT NOT NULL, 
	down BIGINT NOT NULL, 
	requests BIGINT NOT NULL, 
	tokens BIGINT NOT NULL, 
	cost DOUBLE, 
	causes JSON, 
	phases JSON, 
	PRIMARY KEY (target, hour_unix_s, location, check_name, maintenance)
)
 WITHOUT ROWID

;
INSERT INTO "probe_hours" VALUES('here',1799964000,'fra','',0,3,0,0,0,0,3,60,0.75,NULL,'{"total":[3,780000000,260000000,260000000,446,3]}');
INSERT INTO "probe_hours" VALUES('here',1799964000,'fra','chat',0,3,0,0,0,0,3,60,0.75,NULL,'{"connect":[3,2998203,999400,999402,318,3],"total":[3,749998203,249999400,249999402,445,3]}');
INSERT INTO "probe_hours" VALUES('here',1799964000,'fra','models',0,3,0,0,0,0,0,0,NULL,NULL,'{"total":[3,15000000,5000000,5000000,355,3]}');
CREATE TABLE probe_memory (
	name TEXT NOT NULL, 
	value JSON, 
	PRIMARY KEY (name)
);
INSERT INTO "probe_memory" VALUES('target/here','{"checks":{"models":{"known":["a"]}}}');
CREATE TABLE probe_results (
	round INTEGER NOT NULL, 
	number SMALLINT NOT NULL, 
	check_name TEXT NOT NULL, 
	state TEXT NOT NULL, 
	started_unix_ns BIGINT NOT NULL, 
	duration_ns BIGINT NOT NULL, 
	reason TEXT, 
	failed JSON, 
	assertion_set BIGINT, 
	details JSON, 
	phases_ns JSON, 
	figures JSON, 
	status BIGINT, 
	error_kind TEXT, 
	error_phase TEXT, 
	request_id TEXT, 
	key_alias TEXT, 
	model TEXT, 
	requests BIGINT NOT NULL, 
	tokens BIGINT NOT NULL, 
	cost DOUBLE, 
	PRIMARY KEY (round, number), 
	FOREIGN KEY(round) REFERENCES probe_rounds (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "probe_results" VALUES(1,0,'models','up',1800000060000000000,0,NULL,NULL,NULL,NULL,'{"total":5000000}',NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0,NULL);
INSERT INTO "probe_results" VALUES(1,1,'chat','up',1800000060000001000,250000000,NULL,NULL,1657301148831383757,'[null,"42"]','{"connect":1000001,"total":250000001}','{"tokens_per_second":40.5}',200,NULL,NULL,'q-1','key-1','a-model',1,20,0.25);
INSERT INTO "probe_results" VALUES(2,0,'models','up',1800000120000000000,0,NULL,NULL,NULL,NULL,'{"total":5000000}',NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0,NULL);
INSERT INTO "probe_results" VALUES(2,1,'chat','up',1800000120000001000,250000000,NULL,NULL,1657301148831383757,'[null,"42"]','{"connect":1000002,"total":250000002}','{"tokens_per_second":40.5}',200,NULL,NULL,'q-2','key-1','a-model',1,20,0.25);
CREATE TABLE probe_rounds (
	id INTEGER NOT NULL, 
	round_id TEXT NOT NULL, 
	target TEXT NOT NULL, 
	location TEXT NOT NULL, 
	state TEXT NOT NULL, 
	started_unix_ns BIGINT NOT NULL, 
	slot_unix_ns BIGINT, 
	duration_ns BIGINT NOT NULL, 
	reason TEXT, 
	cause_check TEXT, 
	cause TEXT, 
	maintenance TEXT, 
	trace_id TEXT, 
	rolled_up SMALLINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (round_id)
);
INSERT INTO "probe_rounds" VALUES(1,'r-1','here','fra','up',1800000060000000000,NULL,260000000,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "probe_rounds" VALUES(2,'r-2','here','','down',1800000120000000000,NULL,260000000,'größer',NULL,NULL,'sunday',NULL,0);
CREATE TABLE probe_schema (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT probe_schema_pkc PRIMARY KEY (version_num)
);
INSERT INTO "probe_schema" VALUES('1');
CREATE INDEX probe_rounds_by_start ON probe_rounds (started_unix_ns);
CREATE INDEX probe_rounds_by_target ON probe_rounds (target, started_unix_ns);
CREATE INDEX probe_rounds_fresh ON probe_rounds (started_unix_ns) WHERE rolled_up = 0;
COMMIT;
