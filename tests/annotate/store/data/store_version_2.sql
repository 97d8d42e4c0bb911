BEGIN TRANSACTION;
CREATE TABLE adjudication (
	id INTEGER NOT NULL, 
	item INTEGER NOT NULL, 
	choice VARCHAR(16) NOT NULL, 
	strength INTEGER, 
	ranking TEXT, 
	comment TEXT, 
	adjudicator INTEGER NOT NULL, 
	created_at FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(item) REFERENCES item (id), 
	FOREIGN KEY(adjudicator) REFERENCES annotator (id)
);
INSERT INTO "adjudication" VALUES(1,1,'both_bad',NULL,NULL,'no',1,1.79586692341889429085e+09);
CREATE TABLE annotator (
	id INTEGER NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	role VARCHAR(16) NOT NULL, 
	password_hash TEXT, 
	simulated BOOLEAN NOT NULL, 
	state VARCHAR(16) DEFAULT 'active' NOT NULL, 
	session_version INTEGER NOT NULL, 
	created_at FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
INSERT INTO "annotator" VALUES(1,'lead','admin','$argon2id$v=19$m=8,t=1,p=1$gT8kqRZpnIYhjcUV7WMnGw$mXVgps6n8rO3Az7NGEIGP76ZtjAw2hGYeenIvW8AXF0',0,'active',0,1.79586692335063314437e+09);
INSERT INTO "annotator" VALUES(2,'ann','annotator','$argon2id$v=19$m=8,t=1,p=1$WSrL/iB4ZnoFamGXXzknwQ$pdI0l5jQlhxfYA/OhcFnlIlPjWz+uiU9jJES1E5ecMQ',0,'active',0,1.79586692335937976833e+09);
INSERT INTO "annotator" VALUES(3,'Ann','annotator','$argon2id$v=19$m=8,t=1,p=1$/FAYxJvcQZhCUIHZSxOLmg$GU5/acSRuhx6AUCKMShS5dGU1PvSTwUxppoNQBk3Vaw',0,'active',0,1.79586692336333394051e+09);
CREATE TABLE api_token (
	id INTEGER NOT NULL, 
	annotator INTEGER NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	token_hash VARCHAR(64) NOT NULL, 
	created_at FLOAT NOT NULL, 
	revoked_at FLOAT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(annotator) REFERENCES annotator (id), 
	UNIQUE (token_hash)
);
INSERT INTO "api_token" VALUES(1,2,'notebook','2c8cf9cb57084084501a9e88102f950cb6e9a2150ba40ffa30756e45c8a0206e',1.79586692336731624606e+09,NULL);
CREATE TABLE assignment (
	id INTEGER NOT NULL, 
	item INTEGER NOT NULL, 
	annotator INTEGER NOT NULL, 
	simulated BOOLEAN NOT NULL, 
	state VARCHAR(8) NOT NULL, 
	swapped BOOLEAN NOT NULL, 
	display_order TEXT, 
	leased_at FLOAT NOT NULL, 
	expires_at FLOAT NOT NULL, 
	revision INTEGER NOT NULL, 
	surplus BOOLEAN NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (item, annotator), 
	FOREIGN KEY(item) REFERENCES item (id), 
	FOREIGN KEY(annotator) REFERENCES annotator (id)
);
INSERT INTO "assignment" VALUES(1,1,2,0,'done',0,NULL,1.79586692338756561283e+09,1.79586698338756561282e+09,1,0);
INSERT INTO "assignment" VALUES(2,2,2,0,'skipped',1,NULL,1.79586692341093635558e+09,1.79586698341093635566e+09,1,0);
CREATE TABLE event (
	id INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	annotator INTEGER, 
	kind VARCHAR(32) NOT NULL, 
	detail TEXT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(annotator) REFERENCES annotator (id)
);
INSERT INTO "event" VALUES(1,1.79586692335426712039e+09,NULL,'account added','{"name": "lead", "role": "admin"}');
INSERT INTO "event" VALUES(2,1.79586692335956692699e+09,NULL,'account added','{"name": "ann", "role": "annotator"}');
INSERT INTO "event" VALUES(3,1.79586692336350607873e+09,NULL,'account added','{"name": "Ann", "role": "annotator"}');
INSERT INTO "event" VALUES(4,1.79586692336801934241e+09,2,'token made','{"purpose": "notebook"}');
INSERT INTO "event" VALUES(5,1795866923.37103,NULL,'items loaded','{"known": 0, "new": 3, "place": "items"}');
INSERT INTO "event" VALUES(6,1.79586692341889429085e+09,1,'adjudicated','{"choice": "both_bad", "item": 1}');
CREATE TABLE item (
	id INTEGER NOT NULL, 
	item_id VARCHAR(200) NOT NULL, 
	group_id VARCHAR(200) NOT NULL, 
	prompt TEXT NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	repeat_of INTEGER, 
	only_for INTEGER, 
	known_strength INTEGER, 
	campaign VARCHAR(200), 
	priority FLOAT NOT NULL, 
	overlap INTEGER NOT NULL, 
	done_people INTEGER NOT NULL, 
	done_simulated INTEGER NOT NULL, 
	round INTEGER NOT NULL, 
	created_at FLOAT NOT NULL, 
	fingerprint VARCHAR(16) NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (item_id), 
	FOREIGN KEY(repeat_of) REFERENCES item (id), 
	FOREIGN KEY(only_for) REFERENCES annotator (id)
);
INSERT INTO "item" VALUES(1,'i0','group-i0','[{"role": "user", "content": "Question i0?"}]','ordinary',NULL,NULL,NULL,NULL,0.0,1,1,0,0,1795866923.37103,'ca6a7014f166e1a4');
INSERT INTO "item" VALUES(2,'i1','group-i1','[{"role": "user", "content": "Question i1?"}]','ordinary',NULL,NULL,NULL,NULL,0.0,1,0,0,0,1795866923.37103,'0ce5b5c0ceccc681');
INSERT INTO "item" VALUES(3,'i2','group-i2','[{"role": "user", "content": "Question i2?"}]','ordinary',NULL,NULL,NULL,NULL,0.0,1,0,0,0,1795866923.37103,'a5d421a8d8c809d3');
CREATE TABLE judgement (
	id INTEGER NOT NULL, 
	item INTEGER NOT NULL, 
	annotator INTEGER NOT NULL, 
	revision INTEGER NOT NULL, 
	client_key VARCHAR(64) NOT NULL, 
	choice VARCHAR(16) NOT NULL, 
	strength INTEGER, 
	ranking TEXT, 
	swapped BOOLEAN NOT NULL, 
	display_order TEXT, 
	reason TEXT, 
	comment TEXT, 
	flag VARCHAR(32), 
	rubric TEXT, 
	edited_text TEXT, 
	edited_response INTEGER, 
	guidelines_version VARCHAR(64), 
	seconds FLOAT, 
	created_at FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (item, annotator, revision), 
	FOREIGN KEY(item) REFERENCES item (id), 
	FOREIGN KEY(annotator) REFERENCES annotator (id), 
	UNIQUE (client_key)
);
INSERT INTO "judgement" VALUES(1,1,2,1,'a-client-key','compared',2,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1.79586692339881324768e+09);
INSERT INTO "judgement" VALUES(2,2,2,1,'b-client-key','skipped',NULL,NULL,1,NULL,'x',NULL,NULL,NULL,NULL,NULL,NULL,NULL,1.79586692341491055489e+09);
CREATE TABLE meta (
	"key" VARCHAR(64) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('schema_version','2');
INSERT INTO "meta" VALUES('cookie_key','a-key-of-a-test');
CREATE TABLE response (
	id INTEGER NOT NULL, 
	item INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	response_id VARCHAR(200) NOT NULL, 
	text TEXT NOT NULL, 
	run TEXT NOT NULL, 
	temperature FLOAT, 
	ended BOOLEAN NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (item, position), 
	FOREIGN KEY(item) REFERENCES item (id)
);
INSERT INTO "response" VALUES(1,1,0,'a','first answer','runs/one',0.7,1);
INSERT INTO "response" VALUES(2,1,1,'b','second answer','runs/two',1.3,0);
INSERT INTO "response" VALUES(3,2,0,'a','first answer','runs/one',0.7,1);
INSERT INTO "response" VALUES(4,2,1,'b','second answer','runs/two',1.3,0);
INSERT INTO "response" VALUES(5,3,0,'a','first answer','runs/one',0.7,1);
INSERT INTO "response" VALUES(6,3,1,'b','second answer','runs/two',1.3,0);
CREATE INDEX item_fingerprint ON item (fingerprint);
CREATE INDEX item_open_done_simulated ON item (priority DESC, id) WHERE done_simulated < overlap;
CREATE INDEX item_open_done_people ON item (priority DESC, id) WHERE done_people < overlap;
CREATE INDEX item_planted ON item (kind, repeat_of) WHERE kind != 'ordinary';
CREATE INDEX assignment_of ON assignment (annotator, state);
CREATE INDEX judgement_by ON judgement (annotator, id);
CREATE INDEX adjudication_of ON adjudication (item, id);
COMMIT;
